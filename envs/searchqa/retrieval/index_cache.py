"""Indexes on disk: built once for each corpus, engine and parameters, checked whenever they are opened."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepcredit.envs.places import cache_root
from stepcredit.envs.searchqa.cache_folder import CacheFolder, Manifest, read_manifest
from stepcredit.envs.searchqa.corpus import Corpus
from stepcredit.envs.searchqa.retrieval.contract import RetrievalError


@dataclass(frozen=True, slots=True)
class Recipe:
    """What determines an index.

    Attributes:
        parameters: of the engine, with the versions of the libraries that build the index.
        source: where the corpus came from; the user is told when it changed. None for one that is nowhere on disk.
        layout: of the files. Another says the same in another way, so it keeps folders apart and no runs.
    """

    engine: str
    parameters: Mapping[str, str]
    corpus_sha256: str
    source: str | None = None
    layout: int = 1

    @classmethod
    def of(cls, engine: str, parameters: Mapping[str, str], corpus: Corpus, layout: int = 1) -> Recipe:
        """The recipe of a corpus's index."""
        return cls(engine, parameters, corpus.sha256, corpus.source, layout)

    @property
    def identity(self) -> dict[str, Any]:
        """What an index must have been built from to be used."""
        return {"engine": self.engine, "parameters": dict(self.parameters), "corpus_sha256": self.corpus_sha256}

    @property
    def folder(self) -> str:
        """The index's folder in the cache."""
        canonical = json.dumps(self.identity, sort_keys=True).encode()
        layout = "" if self.layout == 1 else f"v{self.layout}-"
        return f"{self.engine}-{layout}{hashlib.sha256(canonical).hexdigest()[:16]}"


def open_index(recipe: Recipe, build: Callable[[Path], None], root: Path | None = None) -> Path:
    """The folder of the recipe's index. Built where it is missing; built again, and said, where it does not fit.

    Processes that ask at the same time wait for the one that builds.

    Args:
        build: writes the index into an empty folder.
        root: where indexes live; None takes `cache_root`.

    Raises:
        RetrievalError: the cache cannot be written.
    """
    root = cache_root(os.environ) if root is None else root
    folder = root / recipe.folder
    facts = recipe.identity | {"source": recipe.source}
    index = CacheFolder(folder, "index", facts, lambda manifest: _misfit(folder, recipe, manifest), "building it again")
    try:
        index.open(build, lambda: _change(root, recipe))
    except OSError as error:
        raise RetrievalError(
            f"the index cache {root} cannot be written ({error.strerror or error});"
            " set STEPCREDIT_CACHE to a folder that can"
        ) from error
    return folder


def _misfit(folder: Path, recipe: Recipe, manifest: Manifest) -> str | None:
    if manifest.get("corpus_sha256") != recipe.corpus_sha256:
        return f"index {folder} was built from another corpus"
    if not recipe.identity.items() <= manifest.items():
        return f"index {folder} was built with other parameters"
    return None


def _change(root: Path, recipe: Recipe) -> str | None:
    """Says so where an index was built from the same source when it held another corpus."""
    if recipe.source is None:
        return None
    for folder in root.glob(f"{recipe.engine}-*"):
        manifest = read_manifest(folder)
        if manifest is not None and manifest.get("source") == recipe.source:
            before = str(manifest.get("corpus_sha256"))
            if before != recipe.corpus_sha256:
                return (
                    f"{recipe.source} changed after its {recipe.engine} index was built"
                    f" (sha256 {before[:12]}…, now {recipe.corpus_sha256[:12]}…)"
                )
    return None

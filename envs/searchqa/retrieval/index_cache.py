"""Indexes on disk: built once for each corpus, engine and parameters, checked whenever they are opened."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepcredit.envs import disk, plain_json
from stepcredit.envs.places import cache_root
from stepcredit.envs.searchqa.corpus import Corpus
from stepcredit.envs.searchqa.retrieval.contract import RetrievalError

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What determines an index.

    Attributes:
        parameters: of the engine, with the versions of the libraries that build the index.
        source: where the corpus came from; the user is told when it changed. None for one that is nowhere on disk.
    """

    engine: str
    parameters: Mapping[str, str]
    corpus_sha256: str
    source: str | None = None

    @classmethod
    def of(cls, engine: str, parameters: Mapping[str, str], corpus: Corpus) -> Recipe:
        """The recipe of a corpus's index."""
        return cls(engine, parameters, corpus.sha256, corpus.source)

    @property
    def identity(self) -> dict[str, Any]:
        """What an index must have been built from to be used."""
        return {"engine": self.engine, "parameters": dict(self.parameters), "corpus_sha256": self.corpus_sha256}

    @property
    def folder(self) -> str:
        """The index's folder in the cache."""
        canonical = json.dumps(self.identity, sort_keys=True).encode()
        return f"{self.engine}-{hashlib.sha256(canonical).hexdigest()[:16]}"


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
    try:
        if folder.is_dir() and _fault(folder, recipe) is None:
            return folder
        with _lock(root, recipe):
            _settle(folder, recipe, build)
    except OSError as error:
        raise RetrievalError(
            f"the index cache {root} cannot be written ({error.strerror or error});"
            " set STEPCREDIT_CACHE to a folder that can"
        ) from error
    return folder


def _settle(folder: Path, recipe: Recipe, build: Callable[[Path], None]) -> None:
    """Leave a fitting index in the folder; the caller holds the lock."""
    fault = _fault(folder, recipe) if folder.is_dir() else _change(folder.parent, recipe)
    if fault is not None:
        print(f"{fault}; building it again", file=sys.stderr)
    elif folder.is_dir():
        return
    # A name of its own, since a file system without locks lets two build at the same time.
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}-{threading.get_ident()}.building")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    build(unfinished)
    files = {name: _fingerprint(unfinished / name) for name in _file_names(unfinished)}
    manifest = recipe.identity | {"source": recipe.source, "files": files}
    (unfinished / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        unfinished.rename(folder)
    except OSError:
        shutil.rmtree(unfinished, ignore_errors=True)
        if _fault(folder, recipe) is not None:
            raise


def _fault(folder: Path, recipe: Recipe) -> str | None:
    """Why the index in the folder must not be used."""
    manifest = _manifest(folder)
    if manifest is None:
        return f"index {folder} is damaged (no readable {MANIFEST})"
    if manifest.get("corpus_sha256") != recipe.corpus_sha256:
        return f"index {folder} was built from another corpus"
    if not recipe.identity.items() <= manifest.items():
        return f"index {folder} was built with other parameters"
    listed = manifest.get("files")
    if not isinstance(listed, dict) or sorted(listed) != _file_names(folder):
        return f"index {folder} is damaged (its files are not those that {MANIFEST} lists)"
    for name, expected in listed.items():
        if _fingerprint(folder / name) != expected:
            return f"index {folder} is damaged ({name} is not as it was written)"
    return None


def _change(root: Path, recipe: Recipe) -> str | None:
    """Says so where an index was built from the same source when it held another corpus."""
    if recipe.source is None:
        return None
    for folder in root.glob(f"{recipe.engine}-*"):
        manifest = _manifest(folder)
        if manifest is not None and manifest.get("source") == recipe.source:
            before = str(manifest.get("corpus_sha256"))
            if before != recipe.corpus_sha256:
                return (
                    f"{recipe.source} changed after its {recipe.engine} index was built"
                    f" (sha256 {before[:12]}…, now {recipe.corpus_sha256[:12]}…)"
                )
    return None


def _manifest(folder: Path) -> dict[str, Any] | None:
    try:
        manifest = plain_json.parse((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) else None


def _file_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != MANIFEST)


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


@contextmanager
def _lock(root: Path, recipe: Recipe) -> Iterator[None]:
    """Held by one process at a time; the system frees it when that process ends, however it ends."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / f".{recipe.folder}.lock").open("wb") as file:
        if disk.lock(file, wait=True) is None:
            for leftover in root.glob(f".{recipe.folder}*.building"):
                shutil.rmtree(leftover, ignore_errors=True)
        yield

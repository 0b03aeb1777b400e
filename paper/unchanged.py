"""Whether a paper was built from these very results by this very code, so that nothing is left to do."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from importlib import resources
from importlib.metadata import version
from pathlib import Path

from stepcredit.paper.errors import PaperError
from stepcredit.paper.files import write_atomic

RECORD = ".built.json"
_LIBRARIES = ("matplotlib", "numpy", "pandas", "pyarrow", "scipy", "seaborn", "typst")
_KINDS = frozenset({".json", ".parquet"})
_APART = frozenset({"checkpoints", "paper"})


def fingerprint(study: Path) -> str:
    """Of every result file of the study, the code that shows them, and the libraries that it uses.

    Raises:
        PaperError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for name in _LIBRARIES:
        digest.update(f"{name} {version(name)}\n".encode())
    for name, content in (*_code(), *_results(study)):
        digest.update(f"{name} {hashlib.sha256(content).hexdigest()}\n".encode())
    return digest.hexdigest()


def built_before(out: Path, made_of: str) -> list[Path] | None:
    """The files of a paper that was built of the same and is whole; None where there is none."""
    try:
        record = json.loads((out / RECORD).read_bytes())
        files = {out / name: sha256 for name, sha256 in record["files"].items()}
        whole = record["made_of"] == made_of and all(_sha256(path) == sha256 for path, sha256 in files.items())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None
    return list(files) if whole else None


def remember(out: Path, made_of: str, written: Sequence[Path]) -> None:
    """For the next time.

    Raises:
        PaperError: `out` cannot be written.
    """
    files = {str(path.relative_to(out)): _sha256(path) for path in written}
    write_atomic(out / RECORD, json.dumps({"made_of": made_of, "files": files}, indent=1) + "\n")


def _code() -> Iterator[tuple[str, bytes]]:
    for path in sorted(resources.files("stepcredit.paper").iterdir(), key=lambda path: path.name):
        if path.is_file():
            yield path.name, path.read_bytes()


def _results(study: Path) -> Iterator[tuple[str, bytes]]:
    """Those below links too, as they are read."""
    yield "folder", study.resolve().name.encode()
    seen = set[Path]()
    for folder, below, names in os.walk(study, followlinks=True):
        here = Path(folder)
        below[:] = sorted(name for name in below if name not in _APART and (here / name).resolve() not in seen)
        seen |= {(here / name).resolve() for name in below}
        for path in sorted(here / name for name in names if Path(name).suffix in _KINDS):
            yield str(path.relative_to(study)), _content(path)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PaperError(f"cannot read {path}: {error.strerror}; restore it or run the cell again") from error


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

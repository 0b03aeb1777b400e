"""What files hold, as a hash that is remembered by their place, size and time of change."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from stepcredit.envs import disk, plain_json
from stepcredit.envs.places import cache_root
from stepcredit.envs.searchqa.retrieval.contract import RetrievalError
from stepcredit.envs.searchqa.retrieval.progress import Progress

_FOLDER = "fingerprints"
_CHUNK = 2**24


@dataclass(frozen=True, slots=True)
class _Stamp:
    """What tells a file that was read from one that has changed since."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, file: Path) -> _Stamp:
        try:
            status = file.stat()
        except OSError as error:
            raise _unreadable(file, error) from error
        return cls(status.st_size, status.st_mtime_ns)


def fingerprint(files: Sequence[Path], root: Path | None = None) -> str:
    """A file's sha256, as `sha256sum` prints it; of several the sha256 of what it prints for them, sorted by name.

    Files are read once, which takes minutes for 60 GB and is told on standard error, and their hashes are kept in the
    cache. Processes that ask at the same time wait for the one that reads; what it has read before it was interrupted
    is not read again.

    Args:
        files: at least one, with different names.
        root: of the cache; None takes `cache_root`.

    Raises:
        RetrievalError: a file cannot be read or changes meanwhile, or the cache cannot be written.
    """
    root = cache_root(os.environ) if root is None else root
    hashes = dict(zip((file.name for file in files), _hashes([file.resolve() for file in files], root), strict=True))
    if len(files) == 1:
        return hashes[files[0].name]
    lines = (f"{sha256}  {name}\n" for name, sha256 in sorted(hashes.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _hashes(places: Sequence[Path], root: Path) -> list[str]:
    """The files' hashes, all of them kept in the cache."""
    known = [_kept(root, place, _Stamp.of(place)) for place in places]
    if None not in known:
        return [sha256 for sha256 in known if sha256]
    try:
        with _locked(root, places[0]):
            progress = Progress(_unread(places, root))
            return [_kept(root, place, _Stamp.of(place)) or _read(place, root, progress) for place in places]
    except OSError as error:
        raise RetrievalError(
            f"the cache {root} cannot be written ({error.strerror or error}); set STEPCREDIT_CACHE to a folder that can"
        ) from error


def _read(place: Path, root: Path, progress: Progress) -> str:
    """The file's hash, from its content, and kept from now on."""
    stamp = _Stamp.of(place)
    sha256 = _digest(place, progress)
    if _Stamp.of(place) != stamp:
        raise RetrievalError(f"{place} changed while it was read; try again once nobody writes it")
    _keep(root, place, stamp, sha256)
    return sha256


@contextmanager
def _locked(root: Path, place: Path) -> Iterator[None]:
    """Held by one process at a time; the system frees it when that process ends, however it ends."""
    lock = _note(root, place).with_suffix(".lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("wb") as file:
        disk.lock(file, wait=True)
        yield


def _unread(places: Sequence[Path], root: Path) -> int:
    """Bytes of the files whose hashes are not kept."""
    stamps = {place: _Stamp.of(place) for place in places}
    return sum(stamp.size for place, stamp in stamps.items() if _kept(root, place, stamp) is None)


def _digest(place: Path, progress: Progress) -> str:
    digest = hashlib.sha256()
    try:
        with place.open("rb") as file:
            while chunk := file.read(_CHUNK):
                progress.add(f"reading {place} for its sha256, once", len(chunk))
                digest.update(chunk)
    except OSError as error:
        raise _unreadable(place, error) from error
    return digest.hexdigest()


def _unreadable(file: Path, error: OSError) -> RetrievalError:
    return RetrievalError(f"{file} cannot be read ({error.strerror}); check that the index is whole and readable")


def _note(root: Path, place: Path) -> Path:
    return root / _FOLDER / f"{hashlib.sha256(os.fsencode(place)).hexdigest()[:16]}.json"


def _kept(root: Path, place: Path, stamp: _Stamp) -> str | None:
    """The file's hash, where it was read as it is now."""
    try:
        note = plain_json.parse(_note(root, place).read_bytes())
    except (OSError, ValueError):
        return None
    match note:
        case {"path": path, "size": stamp.size, "mtime_ns": stamp.mtime_ns, "sha256": str() as sha256}:
            return sha256 if path == str(place) else None
    return None


def _keep(root: Path, place: Path, stamp: _Stamp, sha256: str) -> None:
    note = _note(root, place)
    partial = note.with_name(f".{note.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    content = {"path": str(place), **asdict(stamp), "sha256": sha256}
    partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    partial.replace(note)

"""Folders of the cache that are written once: whole or not at all, and checked whenever they are opened."""

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

MANIFEST = "manifest.json"

Manifest = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CacheFolder:
    """A folder, and what it has to hold.

    Attributes:
        kind: what messages call it.
        facts: go into its manifest, beside the fingerprints of its files.
        misfit: why a folder with that manifest is not the one that is wanted, as a sentence; None where it is.
        again: what messages say is done with one that cannot be used.
    """

    path: Path
    kind: str
    facts: Manifest
    misfit: Callable[[Manifest], str | None]
    again: str

    def open(self, write: Callable[[Path], None], notice: Callable[[], str | None] = lambda: None) -> None:
        """See that the folder is there. Written where it is missing; again, and said, where it cannot be used.

        Processes that ask at the same time wait for the one that writes.

        Args:
            write: fills an empty folder.
            notice: what the user should know of a folder that was not there.

        Raises:
            OSError: the cache cannot be written.
        """
        if self.path.is_dir() and self._fault() is None:
            return
        with _lock(self.path):
            fault = self._fault() if self.path.is_dir() else notice()
            if fault is not None:
                print(f"{fault}; {self.again}", file=sys.stderr)
            elif self.path.is_dir():
                return
            self._write(write)

    def _write(self, write: Callable[[Path], None]) -> None:
        """The caller holds the lock."""
        # A name of its own, since a file system without locks lets two write at the same time.
        unfinished = self.path.with_name(f".{self.path.name}.{os.getpid()}-{threading.get_ident()}.building")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        try:
            write(unfinished)
            files = {name: _fingerprint(unfinished / name) for name in _file_names(unfinished)}
            manifest = json.dumps({**self.facts, "files": files}, indent=2)
            (unfinished / MANIFEST).write_text(f"{manifest}\n", encoding="utf-8")
            shutil.rmtree(self.path, ignore_errors=True)
            unfinished.rename(self.path)
        except OSError:
            if not self.path.is_dir() or self._fault() is not None:
                raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def _fault(self) -> str | None:
        """Why the folder must not be used."""
        manifest = read_manifest(self.path)
        if manifest is None:
            return f"{self.kind} {self.path} is damaged (no readable {MANIFEST})"
        misfit = self.misfit(manifest)
        if misfit is not None:
            return misfit
        listed = manifest.get("files")
        if not isinstance(listed, dict) or sorted(listed) != _file_names(self.path):
            return f"{self.kind} {self.path} is damaged (its files are not those that {MANIFEST} lists)"
        for name, expected in listed.items():
            if _fingerprint(self.path / name) != expected:
                return f"{self.kind} {self.path} is damaged ({name} is not as it was written)"
        return None


def read_manifest(folder: Path) -> Manifest | None:
    """What the folder's manifest says; None where there is none that can be read."""
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
def _lock(folder: Path) -> Iterator[None]:
    """Held by one process at a time; the system frees it when that process ends, however it ends."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("wb") as file:
        if disk.lock(file, wait=True) is None:
            for leftover in folder.parent.glob(f".{folder.name}*.building"):
                shutil.rmtree(leftover, ignore_errors=True)
        yield

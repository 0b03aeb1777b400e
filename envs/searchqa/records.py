"""Records of strings in files: read by number or by their first string, with no Python object kept for any of them."""

from __future__ import annotations

import hashlib
import os
import weakref
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

CONTENT = "records.bin"
_STARTS, _HASHES, _ORDER = "starts.npy", "hashes.npy", "order.npy"


def canonical(record: Sequence[str]) -> bytes:
    """A record as it is hashed and stored: the lengths in bytes of its strings, a line break, the strings in UTF-8."""
    fields = [part.encode("utf-8", "surrogatepass") for part in record]
    return b" ".join(b"%d" % len(part) for part in fields) + b"\n" + b"".join(fields)


def write_records(folder: Path, records: Iterable[Sequence[str]]) -> None:
    """Write the records into an empty folder; those that came before an error of the iterable are there, too.

    Holds 16 bytes of memory a record, and as much again at the end.
    """
    starts, hashes = array("q", [0]), array("Q")
    try:
        with (folder / CONTENT).open("wb") as file:
            for record in records:
                starts.append(starts[-1] + file.write(canonical(record)))
                hashes.append(_hash(record[0]))
    finally:
        np.save(folder / _STARTS, np.frombuffer(starts, np.int64))
        unsorted = np.frombuffer(hashes, np.uint64)
        order = np.argsort(unsorted, kind="stable")
        np.save(folder / _ORDER, order)
        np.save(folder / _HASHES, unsorted[order])


class Records(Sequence[tuple[str, ...]]):
    """What `write_records` wrote.

    Numbers are mapped; strings are read on use and not mapped, so that what was read once is no memory of the process.
    """

    def __init__(self, folder: Path) -> None:
        self._starts_N1 = mapped(folder / _STARTS)
        self._hashes_N, self._order_N = mapped(folder / _HASHES), mapped(folder / _ORDER)
        self._file = os.open(folder / CONTENT, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)

    def __len__(self) -> int:
        return len(self._order_N)

    def __getitem__(self, position: int) -> tuple[str, ...]:  # type: ignore[override]
        if not -len(self) <= position < len(self):
            raise IndexError(f"record {position} of {len(self)}")
        at = position % len(self)
        start, end = self._starts_N1[at : at + 2].tolist()
        lengths, _, content = os.pread(self._file, end - start, start).partition(b"\n")
        fields, at = [], 0
        for length in map(int, lengths.split()):
            fields.append(content[at : at + length].decode("utf-8", "surrogatepass"))
            at += length
        return tuple(fields)

    def find(self, key: str) -> int | None:
        """The position of the first record whose first string that is."""
        wanted = np.uint64(_hash(key))
        for at in range(int(np.searchsorted(self._hashes_N, wanted)), len(self)):
            if self._hashes_N[at] != wanted:
                break
            position = int(self._order_N[at])
            if self[position][0] == key:
                return position
        return None

    def first_repeated(self) -> tuple[int, int] | None:
        """The first record whose first string an earlier one has: the positions of both."""
        alike = np.flatnonzero(self._hashes_N[1:] == self._hashes_N[:-1])
        for position in np.sort(self._order_N[alike + 1]).tolist():
            first = self.find(self[position][0])
            if first is not None and first < position:
                return first, position
        return None


def mapped(path: Path) -> npt.NDArray[Any]:
    """A .npy file's array, mapped: a plain array, since numpy and numba take microseconds to look at a memmap."""
    return np.asarray(np.load(path, mmap_mode="r"))


def _hash(key: str) -> int:
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")

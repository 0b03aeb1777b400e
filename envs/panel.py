"""Canonical task panels: sorted, each task once, hashed over ids and contents."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True, order=True)
class Task:
    """One task of a benchmark.

    Attributes:
        id: stable name, the same on every machine.
        subset: the benchmark's subset it counts towards.
        content_sha256: fingerprint of everything that determines the episode.
    """

    id: str
    subset: str
    content_sha256: str


@dataclass(frozen=True, slots=True)
class Panel:
    """A fixed list of tasks. Two panels with one `sha256` hold the same tasks with the same contents.

    Attributes:
        selection: which part of the split it is, empty for the whole.
    """

    benchmark: str
    suite: str
    split: str
    tasks: tuple[Task, ...]
    selection: str = ""

    @classmethod
    def of(cls, benchmark: str, suite: str, split: str, tasks: Iterable[Task]) -> Panel:
        """Sort the tasks by id.

        Raises:
            ValueError: two tasks share an id.
        """
        ordered = tuple(sorted(tasks))
        repeated = [a.id for a, b in pairwise(ordered) if a.id == b.id]
        if repeated:
            raise ValueError(f"panel {benchmark}/{suite}/{split} lists task {repeated[0]!r} twice")
        return cls(benchmark, suite, split, ordered)

    @property
    def sha256(self) -> str:
        """Hash over ids, subsets and contents, in order, and the selection of a sub-panel."""
        digest = hashlib.sha256(self.selection.encode())
        for task in self.tasks:
            digest.update(f"{task.id}\t{task.subset}\t{task.content_sha256}\n".encode())
        return digest.hexdigest()

    def permuted(self, seed: int) -> tuple[Task, ...]:
        """The tasks in the order that `seed` gives, the same on every machine and Python version."""
        return tuple(sorted(self.tasks, key=lambda task: _rank(seed, task.id)))

    def prefix(self, size: int, seed: int) -> Panel:
        """The sub-panel of the first `size` tasks of the seeded permutation; a longer one contains a shorter one."""
        return self._part(self.permuted(seed)[:size], f"first {size} of permutation {seed}\n")

    def stratified(self, size: int, seed: int) -> Panel:
        """The first `size` tasks of each subset in the seeded permutation; a shorter subset counts whole."""
        counts: Counter[str] = Counter()
        chosen = []
        for task in self.permuted(seed):
            counts[task.subset] += 1
            if counts[task.subset] <= size:
                chosen.append(task)
        return self._part(chosen, f"first {size} of each subset of permutation {seed}\n")

    def _part(self, tasks: Iterable[Task], selection: str) -> Panel:
        return Panel(self.benchmark, self.suite, self.split, tuple(sorted(tasks)), selection)


def _rank(seed: int, task_id: str) -> bytes:
    return hashlib.sha256(f"panel:{seed}:{task_id}".encode()).digest()

"""Whether a corpus's index has the memory and the disk that it needs, asked before anything is built."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from stepcredit.envs.places import cache_root
from stepcredit.envs.searchqa.retrieval.needs import CorpusSize, Needs
from stepcredit.envs.searchqa.retrieval.opening import RetrieverSpec
from stepcredit.harness.errors import UserError
from stepcredit.harness.study.budget import gibibytes
from stepcredit.harness.study.doctor import Finding
from stepcredit.harness.study.room import existing, memory_of_this_machine
from stepcredit.harness.words import counted


def examine_corpus(corpus: str, spec: RetrieverSpec) -> Sequence[Finding]:
    """What the engine needs for the corpus, held against this machine and the cache's disk.

    Args:
        corpus: a file, or a number of passages.

    Raises:
        EnvError: the file cannot be read, or the engine has no index here.
        UserError: it has no passage.
    """
    size = _size(corpus)
    if size.passages < 1:
        raise UserError(f"--corpus {corpus} has no passage; give a file that has some, or how many there are")
    needs = Needs.of(size, spec)
    return [_corpus(size), _building(needs), _serving(needs), _disk(needs, cache_root(os.environ))]


def _size(corpus: str) -> CorpusSize:
    number = corpus.removeprefix("-")
    if number.isascii() and number.isdecimal():
        return CorpusSize.of_passages(int(corpus))
    return CorpusSize.of_file(Path(corpus))


def _corpus(size: CorpusSize) -> Finding:
    about = "" if size.exact else "about "
    told = f"{about}{counted(size.passages, 'passage')}, {gibibytes(size.content):.2f} GiB uncompressed"
    return Finding("corpus", True, told)


def _building(needs: Needs) -> Finding:
    hours = (
        "and as long as its device takes to encode"
        if needs.hours is None
        else f"about {needs.hours:.1f} hours of one core"
    )
    return _memory("building", needs.build_memory, hours)


def _serving(needs: Needs) -> Finding:
    return _memory("serving", needs.serve_memory, "after a thousand queries")


def _memory(name: str, needed: int, more: str) -> Finding:
    there = memory_of_this_machine()
    told = f"{gibibytes(needed):.1f} GiB of memory, {more}; this machine has {gibibytes(there):.1f} GiB"
    if needed > there:
        return Finding(name, False, f"needs {told}: use a larger one, and search it from here with engine http")
    return Finding(name, True, told)


def _disk(needs: Needs, cache: Path) -> Finding:
    free = shutil.disk_usage(existing(cache)).free
    told = f"{gibibytes(needs.build_disk):.1f} GiB while building, {gibibytes(needs.disk):.1f} GiB afterwards"
    where = f"{cache} has {gibibytes(free):.1f} GiB free"
    if needs.build_disk > free:
        return Finding("disk", False, f"needs {told}, and {where}: set STEPCREDIT_CACHE to a folder on a larger disk")
    return Finding("disk", True, f"{told}; {where}")

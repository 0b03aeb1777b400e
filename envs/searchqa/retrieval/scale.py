"""What a lexical engine costs by the size of its corpus, and what follows for the whole Wikipedia.

    STEPCREDIT_DATA=FOLDER python -m stepcredit.envs.searchqa.retrieval.scale [ENGINE [PASSAGES...]]

Each size is written as a file and opened as users open it, in fresh processes: one that reads and indexes it, one that
answers single questions. Without data the text is made of random words.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from stepcredit.envs.places import CACHE
from stepcredit.envs.searchqa.corpus import read_corpus
from stepcredit.envs.searchqa.retrieval.bench import data, seconds_each, timed
from stepcredit.envs.searchqa.retrieval.contract import RetrievalError, Retriever
from stepcredit.envs.searchqa.retrieval.opening import RetrieverSpec, open_retriever
from stepcredit.envs.searchqa.retrieval.scale_text import write_passages

SIZES = (250_000, 500_000, 1_000_000)
WIKIPEDIA = 21_015_324
"""Passages of wiki-18."""

_BUILD, _SERVE = "build", "serve"
_PAUSE_S = 0.1
_CORPUS, _QUESTIONS, _CACHE = "corpus.jsonl", "questions.json", "cache"
MEASURED = (
    *("passages", "file_gb", "build_hours", "build_cpu_hours", "build_peak_gb", "build_disk_gb", "disk_gb"),
    *("open_s", "median_ms", "p99_ms", "resident_gb", "private_gb"),
)


def measure(engine: str, passages: int) -> dict[str, float]:
    """One size.

    Returns:
        `passages`; `file_gb` of their file; `build_hours` to read and index it, of which `build_cpu_hours` computing;
        `build_peak_gb` of memory and `build_disk_gb` of the cache meanwhile; `disk_gb` of the cache afterwards. Of
        another process, which asks 1000 questions for three passages: `open_s` until the first; `median_ms` and
        `p99_ms` of one; `resident_gb` after them, and `private_gb` of it, which is no mapped file.
    """
    with TemporaryDirectory(prefix="stepcredit-scale-") as name:
        folder = Path(name)
        source, questions = data()
        write_passages(folder / _CORPUS, source.passages, passages)
        (folder / _QUESTIONS).write_text(json.dumps(questions), encoding="utf-8")
        found = {"passages": float(passages), "file_gb": (folder / _CORPUS).stat().st_size / 1e9}
        for job in (_BUILD, _SERVE):
            found |= _in_a_fresh_process(job, engine, folder)
        return found


def line(sizes: Sequence[float], values: Sequence[float]) -> tuple[float, float, float]:
    """Least squares: the value at no passages, the growth with each, and the largest residual."""
    growth, start = np.polyfit(sizes, values, 1)
    off = np.abs(start + growth * np.asarray(sizes) - np.asarray(values)).max()
    return float(start), float(growth), float(off)


def _in_a_fresh_process(job: str, engine: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "stepcredit.envs.searchqa.retrieval.scale", job, engine, str(folder)]
    environ = os.environ | {CACHE: str(folder / _CACHE)}
    process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)
    sizes = []
    while process.poll() is None:
        sizes.append(_size_gb(folder / _CACHE))
        time.sleep(_PAUSE_S)
    said, _ = process.communicate()
    if process.returncode != 0:
        raise RetrievalError(f"{' '.join(command)} ended with status {process.returncode}")
    found: dict[str, float] = json.loads(said)
    kept = _size_gb(folder / _CACHE)
    return found | ({"build_disk_gb": max([*sizes, kept]), "disk_gb": kept} if job == _BUILD else {})


def _build(engine: str, folder: Path) -> dict[str, float]:
    _, seconds = timed(lambda: _retriever(engine, folder))
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "build_hours": seconds / 3600,
        "build_cpu_hours": (time.process_time() + children.ru_utime + children.ru_stime) / 3600,
        "build_peak_gb": _own_memory("VmHWM") + children.ru_maxrss * 1024 / 1e9,
    }


def _serve(engine: str, folder: Path) -> dict[str, float]:
    retriever, opening = timed(lambda: _retriever(engine, folder))
    questions = json.loads((folder / _QUESTIONS).read_text(encoding="utf-8"))
    milliseconds = 1e3 * np.asarray(seconds_each(retriever, questions))
    return {
        "open_s": opening,
        "median_ms": float(np.median(milliseconds)),
        "p99_ms": float(np.percentile(milliseconds, 99)),
        "resident_gb": _own_memory("VmRSS"),
        "private_gb": _own_memory("RssAnon"),
    }


def _retriever(engine: str, folder: Path) -> Retriever:
    return open_retriever(RetrieverSpec.parse({"engine": engine}), read_corpus(folder / _CORPUS))


def _own_memory(what: str) -> float:
    """In GB, as Linux counts it. (`ru_maxrss` would start at what the parent process held.)"""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (kibibytes,) = (text.split()[1] for text in lines if text.startswith(f"{what}:"))
    return int(kibibytes) * 1024 / 1e9


def _size_gb(folder: Path) -> float:
    """What the disk holds of the folder's files, while they come and go."""
    size = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                size += os.stat(os.path.join(place, name)).st_size
    return size / 1e9


def _print_row(name: str, values: Iterable[float]) -> None:
    print(f"{name:12}" + "".join(f"{value:16,.4g}" for value in values), flush=True)


def main(arguments: Sequence[str]) -> None:
    """Print the measurements of these sizes, and the lines through them."""
    if arguments and arguments[0] in (_BUILD, _SERVE):
        job = _build if arguments[0] == _BUILD else _serve
        print(json.dumps(job(arguments[1], Path(arguments[2]))))
        return
    engine, *sizes = arguments or ["bm25"]
    print(" " * 12 + "".join(f"{name:>16}" for name in MEASURED))
    rows = []
    for size in sizes or SIZES:
        rows.append(measure(engine, int(size)))
        _print_row("", (rows[-1][name] for name in MEASURED))
    if len(rows) > 1:
        lines = [line([row["passages"] for row in rows], [row[name] for row in rows]) for name in MEASURED]
        _print_row("at none", (start for start, _, _ in lines))
        _print_row("a million", (growth * 1e6 for _, growth, _ in lines))
        _print_row("off by", (off for _, _, off in lines))
        _print_row("Wikipedia", (start + growth * WIKIPEDIA for start, growth, _ in lines))


if __name__ == "__main__":
    main(sys.argv[1:])

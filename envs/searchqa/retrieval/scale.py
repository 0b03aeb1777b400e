"""What BM25 costs by the size of its corpus, and what follows for the whole Wikipedia.

    STEPCREDIT_DATA=FOLDER python -m stepcredit.envs.searchqa.retrieval.scale [PASSAGES...]

Each size is written as a file and opened as users open it, in fresh processes: one that reads and indexes it, one that
answers single questions. Without data the text is made of random words.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from stepcredit.envs.searchqa.corpus import read_corpus
from stepcredit.envs.searchqa.retrieval.bench import data, seconds_each, timed
from stepcredit.envs.searchqa.retrieval.bm25 import Bm25Retriever
from stepcredit.envs.searchqa.retrieval.bm25_build import DATA, INDICES
from stepcredit.envs.searchqa.retrieval.scale_text import write_passages

SIZES = (250_000, 500_000, 1_000_000)
WIKIPEDIA = 21_015_324
"""Passages of wiki-18."""

_CORPUS, _QUESTIONS, _CACHE = "corpus.jsonl", "questions.json", "cache"
_MEASURED = (
    *("passages", "file_gb", "build_hours", "build_cpu_hours", "build_peak_gb", "build_disk_gb", "disk_gb"),
    *("open_s", "median_ms", "p99_ms", "resident_gb", "private_gb"),
)


def measure(passages: int) -> dict[str, float]:
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
        found |= _in_a_fresh_process("build", folder)
        found["disk_gb"] = _size_gb(folder / _CACHE, "*")
        # A posting takes as much in the batches, which are deleted in the end, as in the index.
        found["build_disk_gb"] = found["disk_gb"] + sum(_size_gb(folder / _CACHE, name) for name in (INDICES, DATA))
        return found | _in_a_fresh_process("serve", folder)


def line(sizes: Sequence[float], values: Sequence[float]) -> tuple[float, float, float]:
    """Least squares: the value at no passages, the growth with each, and the largest residual."""
    growth, start = np.polyfit(sizes, values, 1)
    off = np.abs(start + growth * np.asarray(sizes) - np.asarray(values)).max()
    return float(start), float(growth), float(off)


def _in_a_fresh_process(job: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "stepcredit.envs.searchqa.retrieval.scale", job, str(folder)]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    found: dict[str, float] = json.loads(said)
    return found


def _build(folder: Path) -> dict[str, float]:
    corpus, reading = timed(lambda: read_corpus(folder / _CORPUS, folder / _CACHE))
    _, indexing = timed(lambda: Bm25Retriever(corpus, cache=folder / _CACHE))
    return {
        "build_hours": (reading + indexing) / 3600,
        "build_cpu_hours": time.process_time() / 3600,
        "build_peak_gb": _own_memory("VmHWM"),
    }


def _serve(folder: Path) -> dict[str, float]:
    retriever, opening = timed(
        lambda: Bm25Retriever(read_corpus(folder / _CORPUS, folder / _CACHE), cache=folder / _CACHE)
    )
    questions = json.loads((folder / _QUESTIONS).read_text(encoding="utf-8"))
    milliseconds = 1e3 * np.asarray(seconds_each(retriever, questions))
    return {
        "open_s": opening,
        "median_ms": float(np.median(milliseconds)),
        "p99_ms": float(np.percentile(milliseconds, 99)),
        "resident_gb": _own_memory("VmRSS"),
        "private_gb": _own_memory("RssAnon"),
    }


def _own_memory(what: str) -> float:
    """In GB, as Linux counts it. (`ru_maxrss` would start at what the parent process held.)"""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (kibibytes,) = (text.split()[1] for text in lines if text.startswith(f"{what}:"))
    return int(kibibytes) * 1024 / 1e9


def _size_gb(folder: Path, name: str) -> float:
    return sum(file.stat().st_size for file in folder.rglob(name) if file.is_file()) / 1e9


def _print_row(name: str, values: Iterable[float]) -> None:
    print(f"{name:12}" + "".join(f"{value:16,.4g}" for value in values), flush=True)


def main(arguments: Sequence[str]) -> None:
    """Print the measurements of these sizes, and the lines through them."""
    if arguments and arguments[0] in ("build", "serve"):
        job = _build if arguments[0] == "build" else _serve
        print(json.dumps(job(Path(arguments[1]))))
        return
    print(" " * 12 + "".join(f"{name:>16}" for name in _MEASURED))
    rows = []
    for size in arguments or SIZES:
        rows.append(measure(int(size)))
        _print_row("", (rows[-1][name] for name in _MEASURED))
    if len(rows) > 1:
        lines = [line([row["passages"] for row in rows], [row[name] for row in rows]) for name in _MEASURED]
        _print_row("at none", (start for start, _, _ in lines))
        _print_row("a million", (growth * 1e6 for _, growth, _ in lines))
        _print_row("off by", (off for _, _, off in lines))
        _print_row("Wikipedia", (start + growth * WIKIPEDIA for start, growth, _ in lines))


if __name__ == "__main__":
    main(sys.argv[1:])

"""What BM25 costs by the size of its corpus, and what follows for the whole Wikipedia.

    STEPCREDIT_DATA=FOLDER python -m stepcredit.envs.searchqa.retrieval.scale [PASSAGES...]

Each size is written as a file and opened as users open it, in fresh processes: one that reads and indexes it, one that
answers single questions. Without data the text is made of random words.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from stepcredit.envs.searchqa.corpus import read_corpus
from stepcredit.envs.searchqa.retrieval.bench import data, seconds_each, timed
from stepcredit.envs.searchqa.retrieval.bm25 import Bm25Retriever
from stepcredit.envs.searchqa.retrieval.scale_text import write_passages

SIZES = (250_000, 500_000, 1_000_000)
WIKIPEDIA = 21_015_324
"""Passages of wiki-18."""

_CORPUS, _QUESTIONS, _CACHE = "corpus.jsonl", "questions.json", "cache"
_FITTED = ("file_gb", "disk_gb", "build_peak_gb", "resident_gb", "build_hours", "open_s", "median_ms")


def measure(passages: int) -> dict[str, float]:
    """One size.

    Returns:
        `passages`; `file_gb`, its file; `disk_gb`, of the cache in the end; `build_hours` to read and index the file
        and `build_peak_gb` of that process; of another process that asks 1000 questions, `open_s` until the first,
        `median_ms` and `p99_ms` of one, `resident_gb` after them and `private_gb` of it, which is no mapped file.
    """
    with TemporaryDirectory(prefix="stepcredit-scale-") as name:
        folder = Path(name)
        source, questions = data()
        write_passages(folder / _CORPUS, source.passages, passages)
        (folder / _QUESTIONS).write_text(json.dumps(questions), encoding="utf-8")
        found = {"passages": float(passages), "file_gb": (folder / _CORPUS).stat().st_size / 1e9}
        found |= _in_a_fresh_process("build", folder)
        found["disk_gb"] = sum(file.stat().st_size for file in (folder / _CACHE).rglob("*")) / 1e9
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
    return {"build_hours": (reading + indexing) / 3600, "build_peak_gb": _own_memory("VmHWM")}


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


def _print_table(rows: Sequence[Mapping[str, float]]) -> None:
    for name in rows[0]:
        print(f"{name:14}" + "".join(f"{row[name]:14,.4g}" for row in rows))


def _print_lines(rows: Sequence[Mapping[str, float]]) -> None:
    sizes = [row["passages"] for row in rows]
    print(f"\n{'':14}{'at none':>14}{'a million more':>16}{'off by':>10}{f'at {WIKIPEDIA:,}':>18}")
    for name in _FITTED:
        start, growth, off = line(sizes, [row[name] for row in rows])
        print(f"{name:14}{start:14.4g}{growth * 1e6:16.4g}{off:10.2g}{start + growth * WIKIPEDIA:18.4g}")


def main(arguments: Sequence[str]) -> None:
    """Print the measurements of these sizes, and the lines through them."""
    if arguments and arguments[0] in ("build", "serve"):
        job = _build if arguments[0] == "build" else _serve
        print(json.dumps(job(Path(arguments[1]))))
        return
    rows = [measure(int(size)) for size in arguments or SIZES]
    _print_table(rows)
    if len(rows) > 1:
        _print_lines(rows)


if __name__ == "__main__":
    main(sys.argv[1:])

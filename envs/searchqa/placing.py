"""What the names of a file and its folders tell of its questions: nq/test.jsonl holds NQ's test questions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stepcredit.envs.contract import EnvError
from stepcredit.envs.searchqa.questions import Dataset, own_split

_WORD_BREAK = re.compile(r"[^a-z0-9]+")
_SHARD = re.compile(r"(?P<stem>.*?)[-_.](?P<number>\d+)[-_]of[-_](?P<total>\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Naming:
    """Dataset and split as the names give them, for layouts whose rows do not.

    Attributes:
        dataset: a name that `Dataset.parse` may or may not know.
        split: a name that `own_split` may or may not know.
        known: whether the dataset is one of the seven.
    """

    dataset: str
    split: str
    known: bool = True


def naming_of(path: Path, root: Path) -> Naming:
    """What the file's name and those of its folders, up to `root`, tell.

    The name may be that of the split (hotpotqa/validation.jsonl), or of dataset and split (hotpotqa_dev_500.jsonl).

    Raises:
        EnvError: the file is named after another dataset than its folder.
    """
    stem = stem_of(path)
    folder = next(filter(Dataset.known, _folders(path, root)), None)
    named, rest = _dataset_in(stem)
    if folder is not None and named is not None and Dataset.parse(folder) is not Dataset.parse(named):
        raise EnvError(
            f"{path} is named after {Dataset.parse(named)} and stands in a folder named after {Dataset.parse(folder)}; "
            "move or rename it"
        )
    dataset = folder or named
    return Naming(dataset or path.parent.name, rest, dataset is not None)


def stem_of(path: Path) -> str:
    """The name without what tells the file's format."""
    return re.sub(r"(?i)(\.(jsonl?|parquet|gz))+$", "", path.name)


def names_a_split(naming: Naming) -> bool:
    """Whether the file's name is that of a split."""
    return own_split(naming.split) is not None


def require_all_shards(files: Sequence[Path]) -> None:
    """Check that of train-00000-of-00002.parquet and its like every part is there.

    Raises:
        EnvError: one is missing.
    """
    seen: dict[tuple[Path, str, int], set[int]] = {}
    for file in files:
        if found := _SHARD.fullmatch(stem_of(file)):
            seen.setdefault((file.parent, found["stem"], int(found["total"])), set()).add(int(found["number"]))
    for (folder, stem, total), numbers in seen.items():
        first = min(numbers & {0, 1}, default=0)
        missing = next((number for number in range(first, first + total) if number not in numbers), None)
        if missing is not None:
            raise EnvError(
                f"{folder / stem} has {len(numbers)} of its {total} parts, number {missing} is missing; add it"
            )


def _folders(path: Path, root: Path) -> Iterator[str]:
    """Names of the folders that the file stands in, nearest first."""
    for folder in path.parents:
        yield folder.name
        if folder == root:
            return


def _dataset_in(stem: str) -> tuple[str | None, str]:
    """The dataset that a file is named after, and the rest of the name."""
    words = [word for word in _WORD_BREAK.split(stem.lower()) if word]
    for size in range(len(words), 0, -1):
        for part, rest in ((words[:size], words[size:]), (words[-size:], words[:-size])):
            if Dataset.known("".join(part)):
                return "".join(part), " ".join(rest)
    return None, stem

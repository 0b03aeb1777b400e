"""Where games come from: the generator, ALFWorld's standard layout, or the packed files of STEPCREDIT_DATA."""

from __future__ import annotations

import hashlib
import json
import lzma
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from stepcredit.envs import plain_json
from stepcredit.envs.alfworld.generator import GENERATOR_VERSION, generate
from stepcredit.envs.alfworld.record import GameRecord
from stepcredit.envs.alfworld.rooms import SIZES, SPLIT_SIZES
from stepcredit.envs.alfworld.subsets import Subset
from stepcredit.envs.contract import EnvError
from stepcredit.envs.naming import unknown

SPLITS = tuple(SPLIT_SIZES)
SUITES = (*SIZES, "real")

_LAYOUT = "json_2.1.1"
_SENTENCE = re.compile(r'"Your task is to: ([^"\\]+)"')
_SHOWN = 3


class GameSource(Protocol):
    """The games of one suite."""

    def games(self, split: str) -> tuple[GameRecord, ...]:
        """Every game of the split, in no particular order.

        Raises:
            EnvError: the split's data is missing, incomplete or damaged.
        """
        ...

    def provenance(self) -> Mapping[str, str]:
        """What identifies the games, without reading them."""
        ...


def open_source(suite: str, environ: Mapping[str, str]) -> GameSource:
    """The suite's games. For `real`, $ALFWORLD_DATA wins over $STEPCREDIT_DATA.

    Raises:
        EnvError: there is no such suite, or no place to read the real games from.
    """
    if suite in SIZES:
        return GeneratedSource(suite)
    if suite != "real":
        raise unknown("alfworld suite", suite, SUITES)
    if environ.get("ALFWORLD_DATA"):
        return FolderSource(Path(environ["ALFWORLD_DATA"]))
    if environ.get("STEPCREDIT_DATA"):
        return PackedSource(Path(environ["STEPCREDIT_DATA"]) / "alfworld")
    raise EnvError(
        "suite 'real' needs ALFWorld's games: run alfworld-download and set ALFWORLD_DATA to its folder,"
        " or set STEPCREDIT_DATA to a folder with alfworld/*.jsonl.xz"
    )


class GeneratedSource:
    """Games from the wheel's tables; needs no data."""

    def __init__(self, suite: str) -> None:
        self._suite = suite

    def games(self, split: str) -> tuple[GameRecord, ...]:
        """See `GameSource`."""
        indices = range(SPLIT_SIZES[split])
        return tuple(generate(self._suite, split, subset, index) for subset in Subset for index in indices)

    def provenance(self) -> Mapping[str, str]:
        """See `GameSource`."""
        return {"source": "generated", "generator": GENERATOR_VERSION}


class FolderSource:
    """ALFWorld's standard layout, as alfworld-download writes it.

    A game's own domain and grammar are set aside: all games are played by the wheel's (grammar 2.1.2).

    Args:
        root: a folder that holds json_2.1.1/, or the splits themselves.
    """

    def __init__(self, root: Path) -> None:
        self._root = _standard_layout(root)

    def games(self, split: str) -> tuple[GameRecord, ...]:
        """See `GameSource`."""
        if not (self._root / split).is_dir():
            raise EnvError(f"{self._root} has no folder {split}; run alfworld-download to complete it")
        return _collect(split, str(self._root), self._read)

    def provenance(self) -> Mapping[str, str]:
        """See `GameSource`."""
        return {"source": f"ALFWORLD_DATA, {_LAYOUT}"}

    def _read(self, game_id: str) -> GameRecord:
        path = self._root / game_id / "game.tw-pddl"
        try:
            content = plain_json.parse(path.read_bytes())
        except FileNotFoundError as error:
            raise EnvError("game.tw-pddl is missing") from error
        except (OSError, ValueError) as error:
            raise EnvError("game.tw-pddl is corrupt") from error
        return _standard_record(game_id, content)


class PackedSource:
    """One compressed JSON line per game, one file per split, checked against SHA256SUMS beside them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._sums = _read_sums(root / "SHA256SUMS")

    def games(self, split: str) -> tuple[GameRecord, ...]:
        """See `GameSource`."""
        path = self._root / f"{split}.jsonl.xz"
        packed = {str(entry.get("id")): entry for entry in self._entries(path)}
        return _collect(split, str(path), lambda game_id: _packed_record(game_id, packed.get(game_id)))

    def provenance(self) -> Mapping[str, str]:
        """See `GameSource`."""
        sums = {f"{split}.jsonl.xz": self._sums.get(f"{split}.jsonl.xz", "not listed") for split in SPLITS}
        return {"source": "STEPCREDIT_DATA, packed", **sums}

    def _entries(self, path: Path) -> Iterator[Mapping[str, Any]]:
        """The file's lines.

        Raises:
            EnvError: the file is missing, differs from SHA256SUMS or is not what it claims to be.
        """
        try:
            data = path.read_bytes()
        except OSError as error:
            raise EnvError(f"{path} cannot be read ({error.strerror}); copy it again") from error
        expected, seen = self._sums.get(path.name), hashlib.sha256(data).hexdigest()
        if seen != expected:
            listed = f"{expected[:12]}…" if expected else "nothing"
            raise EnvError(f"{path} is damaged: its sha256 is {seen[:12]}…, SHA256SUMS lists {listed}; copy it again")
        try:
            for line in lzma.decompress(data).splitlines():
                yield plain_json.parse(line)
        except (lzma.LZMAError, ValueError) as error:
            raise EnvError(f"{path} is not xz-compressed JSON lines ({error}); copy it again") from error


@cache
def listed_games(split: str) -> tuple[str, ...]:
    """Ids of the real games of a split that are solvable and of the six subsets, sorted.

    There are 3553, 140 and 134 of them. The standard layout holds further folders (sliced objects, movable
    receptacles, unsolvable ones), which ALFWorld passes over too.
    """
    listing = json.loads(Path(__file__).with_name("real_games.json").read_text(encoding="utf-8"))
    return tuple(sorted(f"{split}/{folder}/{trial}" for folder, trials in listing[split].items() for trial in trials))


def _collect(split: str, where: str, read: Callable[[str], GameRecord]) -> tuple[GameRecord, ...]:
    """All listed games of the split, or one error that names those that cannot be used."""
    games, problems = [], []
    for game_id in listed_games(split):
        try:
            games.append(read(game_id))
        except EnvError as error:
            problems.append(f"{game_id}: {error}")
    if problems:
        raise EnvError(_complaint(split, where, len(games), problems))
    return tuple(games)


def _complaint(split: str, where: str, usable: int, problems: Sequence[str]) -> str:
    more = len(problems) - _SHOWN
    rest = f"; and {more} more" if more > 0 else ""
    return (
        f"{where} holds {usable} usable games of {split}, expected {usable + len(problems)}"
        f" ({'; '.join(problems[:_SHOWN])}{rest}); complete it with alfworld-download --force"
    )


def _standard_layout(root: Path) -> Path:
    """The folder that holds the splits.

    Raises:
        EnvError: there is none.
    """
    if not root.is_dir():
        raise EnvError(f"ALFWORLD_DATA is {root}, which is not a folder; run alfworld-download or unset it")
    for candidate in (root / _LAYOUT, root):
        if any((candidate / split).is_dir() for split in SPLITS):
            return candidate
    others = sorted(path.name for path in root.glob("json_*") if path.name != _LAYOUT)
    seen = f"only {', '.join(others)}" if others else "no games"
    raise EnvError(f"ALFWORLD_DATA is {root}, which holds {seen}, expected {_LAYOUT}/; run alfworld-download")


def _standard_record(game_id: str, content: object) -> GameRecord:
    """A game.tw-pddl's content as a record."""
    if not isinstance(content, dict):
        raise EnvError("game.tw-pddl is not a JSON object")
    grammar, problem = content.get("grammar"), content.get("pddl_problem")
    if not isinstance(grammar, str) or not isinstance(problem, str):
        raise EnvError("game.tw-pddl is of another version (no grammar or no pddl_problem)")
    if content.get("solvable") is not True:
        raise EnvError(f"game.tw-pddl is marked solvable: {json.dumps(content.get('solvable'))}")
    sentence = _SENTENCE.search(grammar)
    if sentence is None or sentence[1].startswith("UNKNOWN GOAL"):
        raise EnvError("game.tw-pddl has no task sentence")
    return _record(game_id, sentence[1], problem)


def _packed_record(game_id: str, entry: Mapping[str, Any] | None) -> GameRecord:
    """A packed line as a record."""
    if entry is None:
        raise EnvError("is missing")
    task, problem = entry.get("task"), entry.get("problem")
    if not isinstance(task, str) or not isinstance(problem, str):
        raise EnvError("has no task or no problem")
    return _record(game_id, task, problem)


def _record(game_id: str, task: str, problem: str) -> GameRecord:
    if "(:init" not in problem or "(:goal" not in problem:
        raise EnvError("its PDDL problem has no init or no goal")
    subset = Subset.of_task_type(game_id.split("/")[1].split("-")[0])
    if subset is None:
        raise EnvError("is of none of the six subsets")
    return GameRecord(game_id, subset, task, problem)


def _read_sums(path: Path) -> Mapping[str, str]:
    """File name -> sha256."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise EnvError(f"STEPCREDIT_DATA: {path} cannot be read ({error.strerror})") from error
    pairs = [line.split() for line in lines if line.strip()]
    malformed = [line for line in pairs if len(line) != 2]
    if malformed:
        raise EnvError(f"{path} has the line {' '.join(malformed[0])!r}, expected 'sha256  file'")
    return {name: digest for digest, name in pairs}

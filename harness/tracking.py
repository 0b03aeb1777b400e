"""What a run tells trackers while it trains: TensorBoard, Weights & Biases, trackio. Never the source of truth.

A tracker sees what the result files will hold, and changes none of it. One that fails is let go, and the run goes on.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Protocol

from stepcredit.harness.errors import UserError
from stepcredit.harness.record.cell import Cell
from stepcredit.harness.record.checkpoint import RunState
from stepcredit.harness.record.rows import TimingRow, UpdateRow
from stepcredit.harness.words import one_of

FOLDER = "tracking"
_PROJECT = "stepcredit"
_NO_NUMBERS = {"update", "seed", "rollouts_sha256", "diagnostics"}
_PEAK_TFLOPS = {"A100": 312.0, "H100": 989.0, "H200": 989.0, "B200": 2250.0}
"""Dense bfloat16, from the makers' data sheets."""

Numbers = Mapping[str, float]


class Tracker(Protocol):
    """Takes numbers by name."""

    def log(self, update: int, numbers: Numbers) -> None:
        """Of the state after so many updates."""
        ...

    def close(self) -> None:
        """There will be no more."""
        ...


@dataclass(frozen=True, slots=True)
class Kind:
    """A way to track.

    Attributes:
        package: what has to be installed.
        begin: makes a tracker of a run.
        failures: names of the exceptions by which it says that it is down, below its package.
    """

    package: str
    begin: Callable[[Cell], Tracker]
    failures: tuple[str, ...] = ()

    def errors(self) -> tuple[type[Exception], ...]:
        """By which it says that it is down."""
        found = [getattr(importlib.import_module(self.package), name) for name in self.failures]
        return (OSError, RuntimeError, ValueError, *found)


class _Board:
    """Event files below the run's folder."""

    def __init__(self, cell: Cell) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(cell.folder / FOLDER))

    def log(self, update: int, numbers: Numbers) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, update)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _Run:
    """A run of Weights & Biases, or of trackio, which has the same interface."""

    def __init__(self, module: str, options: Mapping[str, Any], cell: Cell) -> None:
        named = {"project": _PROJECT, "name": f"{cell.study.resolve().name}/{cell.name}"}
        self._run = importlib.import_module(module).init(
            **named, config=cell.spec.model_dump(mode="json"), resume="allow", **options
        )

    def log(self, update: int, numbers: Numbers) -> None:
        self._run.log(dict(numbers), step=update)

    def close(self) -> None:
        self._run.finish()


def _wandb(cell: Cell) -> Tracker:
    """One run of theirs for one of ours, however often that is interrupted."""
    folder = cell.folder / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return _Run("wandb", {"id": f"{cell.spec.sha256[:16]}{'-again' if cell.copy else ''}", "dir": str(folder)}, cell)


def _trackio(cell: Cell) -> Tracker:
    return _Run("trackio", {"embed": False}, cell)


KINDS: Mapping[str, Kind] = {
    "tensorboard": Kind("tensorboard", _Board),
    "wandb": Kind("wandb", _wandb, ("Error",)),
    "trackio": Kind("trackio", _trackio),
}


def require(names: Sequence[str]) -> tuple[str, ...]:
    """The trackers that are meant.

    Raises:
        UserError: unknown, or not installed.
    """
    found = tuple(one_of("tracker", name, KINDS) for name in names)
    for name in found:
        if importlib.util.find_spec(KINDS[name].package) is None:
            raise UserError(f"--track {name} needs the package {KINDS[name].package}; pip install it, or leave it out")
    return tuple(dict.fromkeys(found))


class Trackers:
    """Those of one run; each is let go when it fails.

    Args:
        names: of `KINDS`.
        say: told once, in a sentence, of each that is let go.
    """

    def __init__(self, cell: Cell, names: Sequence[str], say: Callable[[str], None]) -> None:
        self._cell, self._say = cell, say
        self._open: dict[str, Tracker] = {}
        for name in names:
            self._try(name, partial(self._begin, name))

    def tell(self, numbers: Callable[[], Numbers], update: int) -> None:
        """What there is to say after an update; it is asked for only if somebody listens."""
        told = numbers() if self._open else {}
        for name, tracker in list(self._open.items()):
            self._try(name, partial(tracker.log, update, told))

    def close(self) -> None:
        """The run has ended, or stops here."""
        for name, tracker in list(self._open.items()):
            self._try(name, tracker.close)

    def _begin(self, name: str) -> None:
        self._open[name] = KINDS[name].begin(self._cell)

    def _try(self, name: str, act: Callable[[], None]) -> None:
        try:
            act()
        except KINDS[name].errors() as error:
            self._open.pop(name, None)
            reason = (str(error) or type(error).__name__).splitlines()[0]
            self._say(f"{name} is down ({reason}); the run goes on without it")


def numbers_of(state: RunState, parameters: int, device: str) -> dict[str, float]:
    """What the last update and the evaluation after it came to, by part.

    Args:
        parameters: of the policy, for the arithmetic of a gradient: 6 operations a weight and token.
        device: its name, for the share of what the device can do at most (MFU); unknown ones have none.
    """
    numbers: dict[str, float] = {}
    if state.updates:
        numbers |= _trained(state.updates[-1])
        seconds = next(row for row in reversed(state.timings) if row.update == state.update)
        numbers |= _spent(seconds, _tokens(state), parameters, device, state.sharing)
    if state.evaluated == state.update:
        last = [row.success for row in state.episodes if row.phase == "eval" and row.update == state.update]
        numbers["eval/success"] = sum(last) / len(last)
    return numbers


def _trained(row: UpdateRow) -> dict[str, float]:
    own = {f"train/{name}": value for name, value in asdict(row).items() if name not in _NO_NUMBERS}
    return own | {f"method/{name}": value for name, value in json.loads(row.diagnostics).items()}


def _spent(row: TimingRow, tokens: int, parameters: int, device: str, devices: int) -> dict[str, float]:
    """Seconds by part, tokens read and written a second of the rollouts, and how hard the update worked."""
    parts = {f"seconds/{name.removesuffix('_s')}": value for name, value in asdict(row).items() if name != "update"}
    tflops = 6.0 * parameters * tokens / max(row.update_s, 1e-9) / 1e12
    rates = {"speed/rollout_tokens_per_s": tokens / max(row.rollout_s, 1e-9), "speed/update_tflops": tflops}
    peak = next((most for name, most in _PEAK_TFLOPS.items() if name in device), None)
    return parts | rates | ({} if peak is None else {"speed/update_mfu": tflops / peak / devices})


def _tokens(state: RunState) -> int:
    """Of the last update's episodes."""
    last = [row for row in state.episodes if row.phase == "train" and row.update == state.update - 1]
    return sum(row.prompt_tokens + row.response_tokens for row in last)

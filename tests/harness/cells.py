"""Small real runs in processes of their own, which can be killed at a named point."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from stepcredit.harness import determinism
from stepcredit.harness.errors import UserError
from stepcredit.harness.record import checkpoint, files, manifest
from stepcredit.harness.record.cell import CREDITS, EPISODES, PROBES, TIMINGS, UPDATES, Cell
from stepcredit.harness.run.train import train
from stepcredit.harness.setup.parts import assemble
from stepcredit.harness.setup.settings import build_spec
from stepcredit.harness.spec import RunSpec

ALIKE = (EPISODES, UPDATES, CREDITS, PROBES)
_ITS_OWN = {"wall_s", "peak_rss_mb", "resumed_at", "git_commit", "git_dirty"}

SMALL = (
    "updates=3",
    "checkpoint_every=1",
    "rollout.tasks=3",
    "rollout.group=4",
    "rollout.max_turns=10",
    "evaluation.size=4",
    "evaluation.samples=1",
    "evaluation.every=2",
)

LEAST = (
    "updates=1",
    "checkpoint_every=1",
    "rollout.tasks=1",
    "rollout.group=2",
    "rollout.max_turns=3",
    "evaluation.size=2",
    "evaluation.samples=1",
)


class KillPoint(NamedTuple):
    """The `nth` call of a function, counted from 1, at which the process kills itself."""

    module: str
    name: str
    nth: int


def small_spec(*overrides: str, method: str = "stepopsd", seed: int = 0) -> RunSpec:
    return build_spec(
        model="tiny", benchmark="alfworld", suite=None, method=method, seed=seed, overrides=(*SMALL, *overrides)
    )


def run_in_process(study: Path, spec: RunSpec, kill: KillPoint | None = None) -> int:
    """Run the cell in a fresh process; its exit code, negative for a signal."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.harness.cells"])
    process = context.Process(target=run_here, args=(study, spec.model_dump(mode="json"), kill))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def run_here(study: Path, spec: dict[str, Any], kill: KillPoint | None = None) -> None:
    """Run the cell in this process."""
    if kill is not None:
        _arm(kill)
    cell = Cell(study, RunSpec.model_validate(spec))
    switches = determinism.switch_on(1, "cpu")
    train(cell, assemble(cell.spec, "cpu"), switches, lambda report: None)


def bits(cell: Cell) -> dict[str, object]:
    """All that a complete run has alike with one that was left alone, by name."""
    found = manifest.read(cell.folder)
    assert found is not None
    assert found.final_weights_sha256 != found.policy.weights_sha256, "nothing was learned: a weak test"
    told = {name: value for name, value in found.model_dump(mode="json").items() if name not in _ITS_OWN}
    told["files"] = {name: sha256 for name, sha256 in found.files.items() if name != TIMINGS}
    return {**told, **{name: files.sha256_of(cell.folder / name) for name in ALIKE}}


def reached(cell: Cell) -> int:
    """The update of the run's last checkpoint, all of which can be read; -1 where there is none."""
    whole = [-1]
    for path in checkpoint.available(cell.folder):
        try:
            whole.append(checkpoint.load(path, cell.spec.sha256)[0].update)
        except UserError:
            raise AssertionError(f"{path.name} is not whole") from None
    return max(whole)


def _arm(kill: KillPoint) -> None:
    """Make the nth call of the function the last thing that the process does."""
    *owner, name = kill.name.split(".")
    target: Any = import_module(kill.module)
    for part in owner:
        target = getattr(target, part)
    setattr(target, name, _deadly(getattr(target, name), kill.nth))


def _deadly(function: Callable[..., Any], nth: int) -> Callable[..., Any]:
    calls = 0

    def counted(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **named)

    return counted

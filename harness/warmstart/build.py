"""`stepcredit warmstart`: demonstrations, cloning, measurement, a folder to ship."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from stepcredit.envs.contract import Benchmark
from stepcredit.envs.panel import Panel
from stepcredit.harness import determinism
from stepcredit.harness.episodes.player import Player
from stepcredit.harness.errors import UserError
from stepcredit.harness.model.policy import Policy, weights_sha256
from stepcredit.harness.record import files
from stepcredit.harness.spec import RolloutSpec
from stepcredit.harness.warmstart.cloning import CloningSpec, CloningStep, clone, learn
from stepcredit.harness.warmstart.demonstrations import Demonstration
from stepcredit.harness.warmstart.measure import Measurement
from stepcredit.harness.warmstart.reading import Lesson, Reading, ReadingSpec, Tutor
from stepcredit.harness.warmstart.trees import tree_loss
from stepcredit.harness.warmstart.understanding import described, understand

_LINE_EVERY = 100
_READ_TASKS = 32


class CourseSpec(Protocol):
    """A dataclass that determines the weights."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def seed(self) -> int: ...

    @property
    def clonings(self) -> tuple[CloningSpec, ...]:
        """Of the lessons by demonstrations, in their order."""
        ...

    @property
    def reading(self) -> ReadingSpec | None:
        """The last lesson; None for policies that only play."""
        ...


class Course(Protocol):
    """What a policy is warm-started on."""

    @property
    def spec(self) -> CourseSpec: ...

    @property
    def command(self) -> str:
        """What makes the folder again."""
        ...

    def fresh(self) -> Policy:
        """The policy with seeded random weights."""
        ...

    def streams(self, policy: Policy) -> Sequence[Iterator[Demonstration]]:
        """For each lesson by demonstrations endless ones, on tasks that no panel holds."""
        ...

    @property
    def limits(self) -> RolloutSpec:
        """Of episodes."""
        ...

    def held_out(self) -> tuple[Benchmark, Panel]:
        """Where it is measured whether the policy can read."""
        ...

    def lessons(self, policy: Policy) -> Iterator[Lesson]:
        """Endless tasks that no panel holds, to learn to read on."""
        ...

    def tutor(self, task_id: str) -> Tutor:
        """An expert at the beginning of a held-out task."""
        ...

    def data(self) -> Mapping[str, object]:
        """What identifies the tasks, for the manifest."""
        ...

    def measure(self, policy: Policy) -> list[Measurement]:
        """What the policy can do on held-out tasks."""
        ...


def course_of(benchmark: str, *, reads: bool = True) -> Course:
    """The benchmark's warm start; without `reads` the first lesson alone, where a policy is shipped that had no other.

    Raises:
        UserError: it has none, or none without the second lesson.
    """
    if benchmark == "alfworld":
        from stepcredit.harness.warmstart.household import BLIND, HouseholdCourse

        return HouseholdCourse(None if reads else BLIND)
    if not reads:
        raise UserError(f"--blind is for alfworld alone, not for {benchmark!r}; leave it out")
    if benchmark == "searchqa":
        from stepcredit.harness.warmstart.search import SearchCourse

        return SearchCourse()
    if benchmark == "diagnostic":
        from stepcredit.harness.warmstart.puzzles import PuzzleCourse

        return PuzzleCourse()
    raise UserError(f"benchmark {benchmark!r} has no warm start; known are alfworld, searchqa, diagnostic")


def build(course: Course, report: Callable[[CloningStep], None]) -> Policy:
    """Make the policy and train it in all lessons; equal specs give equal bits on one machine."""
    policy, done = course.fresh(), 0
    for demonstrations, spec in zip(course.streams(policy), course.spec.clonings, strict=True):
        for step in clone(policy.model, demonstrations, spec):
            report(replace(step, step=done + step.step))
        done += spec.steps
    if course.spec.reading is not None:
        for step in read(course, policy, course.spec.reading):
            report(replace(step, step=done + step.step))
    return policy


def read(course: Course, policy: Policy, spec: ReadingSpec) -> Iterator[CloningStep]:
    """The last lesson, of a policy that can play."""
    student = replace(policy, model=deepcopy(policy.model).eval())
    benchmark, _ = course.held_out()
    players = Player.of(student, benchmark), Player.of(policy, benchmark)
    trees = Reading(spec, *players, course.limits, course.spec.seed).trees(course.lessons(policy))
    yield from learn(policy.model, trees, partial(tree_loss, policy.model, student.model), spec.cloning)


def understood(course: Course, policy: Policy, tasks: int) -> list[dict[str, Any]]:
    """Whether it can read, on so many held-out tasks; see `Understanding`."""
    benchmark, panel = course.held_out()
    found = understand(Player.of(policy, benchmark), panel, tasks, course.limits, course.tutor)
    return [described(reading) for reading in found]


def save(
    course: Course,
    policy: Policy,
    measured: Sequence[Mapping[str, Any]],
    reads: Sequence[Mapping[str, Any]],
    folder: Path,
) -> None:
    """Write weights, tokenizer and manifest; the manifest comes last, so that a folder with one is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    policy.model.save_pretrained(folder)
    policy.tokenizer.save_pretrained(folder)
    names = ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json")
    manifest = {
        "spec": asdict(course.spec),
        "command": course.command,
        "parameters": policy.parameters,
        "vocabulary": len(policy.tokenizer),
        "weights_sha256": weights_sha256(policy.model),
        **course.data(),
        "torch": torch.__version__,
        "measured": measured,
        **({"reads": reads} if reads else {}),
        "files": {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names},
    }
    files.write_json(folder / "manifest.json", manifest)


def _require_free(folder: Path) -> None:
    """Nothing of a warm start is kept half-way, so that there is nothing to resume in a folder with a policy."""
    if any((folder / name).exists() for name in ("model.safetensors", "manifest.json")):
        raise UserError(f"{folder} holds a policy already; choose another folder with --out")


def main(benchmark: str, folder: Path, *, reads: bool) -> None:
    """Build the default policy, measure it, write the folder; shows progress on standard error.

    Raises:
        UserError: the benchmark has no warm start, or the folder holds a policy already or cannot be written.
    """
    course, console = course_of(benchmark, reads=reads), Console(stderr=True)
    _require_free(folder)
    files.make_folder(folder)
    determinism.switch_on(1, "cpu")
    lessons = [*course.spec.clonings, *([course.spec.reading.cloning] if course.spec.reading else [])]
    steps = sum(spec.steps for spec in lessons)
    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=console) as bars:
        cloning = bars.add_task("cloning", total=steps)

        def report(step: CloningStep) -> None:
            bars.update(cloning, completed=step.step + 1)
            if not console.is_terminal and step.step % _LINE_EVERY == 0:
                console.print(f"cloning {step.step}/{steps}, loss {step.loss:.4f}", highlight=False)

        policy = build(course, report)
        bars.add_task("measuring", total=None)
        measured = [asdict(found) for found in course.measure(policy)]
        gaps = understood(course, policy, _READ_TASKS) if course.spec.reading else []
    save(course, policy, measured, gaps, folder)
    print(f"policy: {folder}")

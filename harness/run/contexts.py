"""What teachers are shown about the episodes of one task, by any arm."""

from __future__ import annotations

from dataclasses import dataclass

from stepcredit.harness.episodes.player import Player
from stepcredit.harness.episodes.rollout import rollout
from stepcredit.harness.errors import UserError
from stepcredit.harness.model.transcript import Transcript
from stepcredit.harness.run.given import complete
from stepcredit.harness.run.schedule import tasks_of_update
from stepcredit.harness.seeds import Draws
from stepcredit.harness.setup.parts import Parts
from stepcredit.harness.setup.showing import task_named
from stepcredit.harness.spec import RunSpec
from stepcredit.methods.gaps import Lesson, lesson_of
from stepcredit.methods.hindsight import TaughtConfig


@dataclass(frozen=True, slots=True)
class TeacherContext:
    """What the teacher of one trajectory is shown.

    Attributes:
        trajectory: its place in the group.
        success: whether it succeeded.
        served: whether its teacher has what the arm asks for.
        block: what is put in, if anything.
        against: what stands in its place for the context that it is compared with; None where that is the student's.
        prompt: the first prompt, where the teacher's is not the student's.
    """

    trajectory: int
    success: bool
    served: bool
    block: str | None = None
    against: str | None = None
    prompt: str | None = None


def teacher_contexts(spec: RunSpec, parts: Parts, task_id: str | None) -> tuple[str, list[TeacherContext]]:
    """The task's id, and a context for each trajectory of its group; the first update's tasks are played beside it.

    Args:
        task_id: of the training split; None takes the first of the first update.

    Raises:
        UserError: there is no such task, the method has no teacher in hindsight, or an arm cannot be served.
        EnvError: the benchmark has no reference trajectory for an arm that needs one.
    """
    config = parts.method.config
    if not isinstance(config, TaughtConfig):
        raise UserError(f"method {spec.method!r} has no teacher in hindsight")
    others = tasks_of_update(parts.train_panel, spec.rollout.tasks, spec.seed, 0)
    task = others[0] if task_id is None else task_named(parts.train_panel, task_id)
    tasks = [task, *(other for other in others if other != task)]
    player = Player.of(parts.policy, parts.benchmark, spec.engine)
    groups = rollout(player, tasks, spec.rollout, Draws(spec.seed, update=0))
    group = complete(groups, tasks, parts.method.needs, player, spec, 0, parts.skills)[0]
    lessons = [lesson_of(group, index, config) for index in range(len(group.trajectories))]
    return task.id, [
        _context(index, trajectory.success, lesson, parts.policy.transcript)
        for index, (trajectory, lesson) in enumerate(zip(group.trajectories, lessons, strict=True))
    ]


def _context(index: int, success: bool, lesson: Lesson | None, transcript: Transcript) -> TeacherContext:
    if lesson is None:
        return TeacherContext(index, success, served=False)
    prompt = None
    if lesson.told is not None and lesson.told.steps:
        tokens = lesson.told.steps[0].prompt_ids
        prompt = b"".join(transcript.token_bytes(int(token)) for token in tokens).decode("utf-8", "replace")
    return TeacherContext(index, success, True, lesson.hindsight, lesson.against, prompt)

"""What a model reads and writes in an episode, token by token, before anybody trains it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from stepcredit.envs import load_benchmark
from stepcredit.envs.contract import Benchmark, EnvError, TurnFormat
from stepcredit.envs.panel import Panel, Task
from stepcredit.harness.episodes.prompts import Prompt, Tokens, new_prompt
from stepcredit.harness.errors import UserError
from stepcredit.harness.model.policy import load_transcript
from stepcredit.harness.model.tokenizer import special_tokens
from stepcredit.harness.model.transcript import Transcript
from stepcredit.harness.spec import RunSpec


class Role(StrEnum):
    """Where a token comes from."""

    CONTROL = "control"
    """A special token, which no text can write."""
    READ = "read"
    """The template's words, instructions, observations."""
    HINT = "hint"
    """What a teacher is shown beyond the student's prompt."""
    WRITTEN = "written"
    """A response."""


class Arm(StrEnum):
    """Whose prompt it is."""

    STUDENT = "student"
    """The policy's own."""
    GOLDEN = "golden"
    """A teacher's, who is shown the actions of the reference episode."""


@dataclass(frozen=True, slots=True)
class ShownToken:
    """A token, its text with what is no UTF-8 replaced, and its role."""

    id: int
    text: str
    role: Role


@dataclass(frozen=True, slots=True)
class ShownTurn:
    """A turn's whole prompt, and the response that follows it; the last turn shown has none."""

    prompt: tuple[ShownToken, ...]
    response: tuple[ShownToken, ...]

    def news(self, before: ShownTurn | None) -> tuple[ShownToken, ...]:
        """What of the prompt the turn before has not shown: all of it, unless it continues that one."""
        past = () if before is None else before.prompt + before.response
        return self.prompt[len(past) :] if _ids(self.prompt[: len(past)]) == _ids(past) else self.prompt


def shown_turns(spec: RunSpec, task: str | None, turns: int, arm: Arm = Arm.STUDENT) -> tuple[str, list[ShownTurn]]:
    """The task's id, and its first turns as the spec has them written, the reference episode's actions taken.

    Without a reference episode only the first prompt can be shown. No weights are loaded.

    Args:
        spec: model, benchmark and limits.
        task: id; None takes the first training task.
        turns: at most so many prompts.
        arm: whose prompts.

    Raises:
        UserError: unknown model or task, or a first prompt that does not fit.
        EnvError: unknown benchmark, unusable data, or no reference episode for an arm that needs one.
    """
    benchmark = load_benchmark(spec.benchmark, spec.suite, spec.env_options)
    panel = benchmark.panel(spec.train_split)
    chosen = panel.tasks[0].id if task is None else task_named(panel, task).id
    tokenizer, transcript = load_transcript(spec.model, benchmark, thinking=spec.rollout.thinking)
    control = frozenset(special_tokens(tokenizer).values())
    actions = _actions(benchmark, chosen, arm)
    hint = transcript.hindsight("\n".join(actions)) if arm is Arm.GOLDEN else []
    writer = _Writer(transcript, control, hint)
    return chosen, list(_played(benchmark, chosen, actions[: turns - 1], new_prompt(transcript, spec.rollout), writer))


def task_named(panel: Panel, wanted: str) -> Task:
    """The panel's task of that id.

    Raises:
        UserError: it has none.
    """
    found = next((task for task in panel.tasks if task.id == wanted), None)
    if found is None:
        raise UserError(
            f"split {panel.split} of {panel.benchmark}-{panel.suite} has no task {wanted!r}; "
            f"`stepcredit panel {panel.benchmark} --suite {panel.suite} --split {panel.split}` lists them"
        )
    return found


def _actions(benchmark: Benchmark, task: str, arm: Arm) -> tuple[str, ...]:
    try:
        return benchmark.solution(task)
    except EnvError:
        if arm is Arm.GOLDEN:
            raise
        return ()


def _played(
    benchmark: Benchmark, task: str, actions: Sequence[str], prompt: Prompt, writer: _Writer
) -> Iterator[ShownTurn]:
    env, said = benchmark.make(task), list[list[int]]()
    if not prompt.begin(env.reset()):
        raise UserError(f"the first prompt of {task!r} leaves no room for a response; raise rollout.max_context_tokens")
    for action in actions:
        response = writer.transcript.response(_tagged(action, benchmark.turn_format))
        yield ShownTurn(writer.prompt(prompt, said), writer.shown(response, Role.WRITTEN))
        said.append(response)
        result = env.step(action)
        if result.done or prompt.extend(response, result.observation, action) is None:
            return
    yield ShownTurn(writer.prompt(prompt, said), ())


def _tagged(action: str, turn_format: TurnFormat) -> str:
    """The action as a policy writes it; where there are several tags, it has its own already."""
    (first, *others) = turn_format.actions
    return action if others else f"<{first}>{action}</{first}>"


@dataclass(frozen=True, slots=True)
class _Writer:
    """Tokens with their texts and roles."""

    transcript: Transcript
    control: frozenset[int]
    hint: Sequence[int]

    def shown(self, tokens: Tokens, role: Role) -> tuple[ShownToken, ...]:
        spell = self.transcript.token_bytes
        return tuple(
            ShownToken(token, spell(token).decode("utf-8", "replace"), Role.CONTROL if token in self.control else role)
            for token in map(int, tokens)
        )

    def prompt(self, prompt: Prompt, said: Sequence[Sequence[int]]) -> tuple[ShownToken, ...]:
        """With the hint where a teacher has it: right before the words that ask for a response."""
        tokens, suffix = prompt.tokens, len(self.transcript.generation_suffix)
        shown, first = list[ShownToken](), 0
        for start, end in _places(tokens.tolist(), said):
            shown += self.shown(tokens[first:start], Role.READ) + self.shown(tokens[start:end], Role.WRITTEN)
            first = end
        rest = np.split(tokens[first:], [len(tokens) - suffix - first])
        pieces = ((rest[0], Role.READ), (self.hint, Role.HINT), (rest[1], Role.READ))
        return (*shown, *(token for piece, role in pieces for token in self.shown(piece, role)))


def _places(tokens: list[int], said: Sequence[Sequence[int]]) -> Iterator[tuple[int, int]]:
    """Where earlier responses stand in a prompt, those that it still has, in order."""
    first = 0
    for response in said:
        size = len(response)
        found = (at for at in range(first, len(tokens) - size + 1) if tokens[at : at + size] == list(response))
        at = next(found, None)
        if at is not None and size:
            yield at, at + size
            first = at + size


def _ids(tokens: Sequence[ShownToken]) -> list[int]:
    return [token.id for token in tokens]

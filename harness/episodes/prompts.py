"""What the agent sees before each turn: one running transcript, or a window of its last turns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from stepcredit.envs.contract import Observation
from stepcredit.harness.model.transcript import Transcript
from stepcredit.harness.spec import History, Overlong, PastReasoning, RolloutSpec
from stepcredit.harness.words import counted

_END_THINK = "</think>"
Tokens = Sequence[int] | NDArray[np.int64]


class Prompt(Protocol):
    """The prompt of one episode's next turn. `begin` comes first; each `extend` follows a turn."""

    @property
    def tokens(self) -> NDArray[np.int64]:
        """[P] everything visible before the next turn."""
        ...

    def begin(self, observation: Observation, hint: str | None = None) -> bool:
        """The first prompt, with a hindsight block if there is one; False where a turn may not fit after it."""
        ...

    def extend(self, response: Tokens, observation: Observation, action: str = "") -> list[int] | None:
        """Remember a turn, what came of it, and the action that was read from it, for who shows that.

        Returns the tokens that follow the response in a running transcript; None where another turn may not fit.
        """
        ...

    def copy(self) -> Self:
        """An independent prompt with the same past."""
        ...


def new_prompt(transcript: Transcript, spec: RolloutSpec) -> Prompt:
    """As `spec.window` says."""
    writer = _Writer(transcript, spec)
    if spec.window is None:
        return RunningTranscript(writer)
    return (TurnWindow if spec.history is History.TURNS else ActionWindow)(writer, spec.window)


class _Writer:
    """Observations as tokens, and the limits on them."""

    def __init__(self, transcript: Transcript, spec: RolloutSpec) -> None:
        self.transcript, self.spec = transcript, spec
        self.suffix = len(transcript.generation_suffix)
        self.end_of_turn = transcript.end_of_turn

    def fits(self, tokens: int) -> bool:
        """Whether a whole response fits after so many tokens."""
        return tokens <= self.room

    @property
    def room(self) -> int:
        """Tokens of a prompt after which a whole response fits."""
        return self.spec.max_context_tokens - self.spec.max_response_tokens

    def first(self, text: str, hint: str | None) -> list[int]:
        """An opening prompt, with a hindsight block before its generation suffix if there is one."""
        tokens = self.transcript.first(text)
        if hint is None:
            return tokens
        return [*tokens[: -self.suffix], *self.transcript.hindsight(hint), *tokens[-self.suffix :]]

    def shown(self, observation: Observation) -> str:
        """The observation's text, and the admissible actions where they are wanted."""
        if not (self.spec.show_actions and observation.actions):
            return observation.text
        return f"{observation.text}\nAdmissible actions: {', '.join(observation.actions)}"

    def past(self, response: Tokens) -> Tokens:
        """A response as later prompts show it."""
        if self.spec.past_reasoning is PastReasoning.KEPT:
            return response
        ended = len(response) > 0 and response[-1] == self.end_of_turn
        said = response[:-1] if ended else response
        text = b"".join(self.transcript.token_bytes(int(token)) for token in said).decode("utf-8", "replace")
        kept = self.transcript.response(text.rpartition(_END_THINK)[2].lstrip("\n")) if _END_THINK in text else said
        return [*kept, *response[len(said) :]]

    def following(self, response: Tokens, text: str, closing: str) -> list[int]:
        """What follows a response: an observation, cut to the limit before its closing words.

        A response that the model ended itself has its end of turn already.
        """
        tokens, end = self.transcript.following(text, closing, self.spec.max_observation_tokens), self.end_of_turn
        return tokens[1:] if end is not None and len(response) and response[-1] == end else tokens


class RunningTranscript:
    """First prompt, response, observation, response, ...: every prompt is a view of one buffer."""

    def __init__(self, writer: _Writer) -> None:
        self._writer = writer
        self._buffer = np.empty(writer.spec.max_context_tokens, dtype=np.int64)
        self._length = 0

    @property
    def tokens(self) -> NDArray[np.int64]:
        return self._buffer[: self._length]

    def begin(self, observation: Observation, hint: str | None = None) -> bool:
        return self._add(self._writer.first(self._writer.shown(observation), hint))

    def extend(self, response: Tokens, observation: Observation, action: str = "") -> list[int] | None:
        following = self._writer.following(response, self._writer.shown(observation), observation.closing)
        return following if self._add([*response, *following]) else None

    def copy(self) -> Self:
        twin = type(self)(self._writer)
        twin._buffer[: self._length] = self.tokens
        twin._length = self._length
        return twin

    def _add(self, tokens: Sequence[int]) -> bool:
        end = self._length + len(tokens)
        if not self._writer.fits(end):
            return False
        self._buffer[self._length : end] = tokens
        self._length = end
        return True


class TurnWindow:
    """A prompt of its own for each turn: the task, the last turns as they were, what the agent sees now.

    The recipe of arXiv 2505.10978 with two turns and the admissible actions. Once turns drop out, the observation
    before the oldest kept one stands right after the task. Admissible actions are listed for the present alone.
    """

    def __init__(self, writer: _Writer, turns: int) -> None:
        self._writer, self._turns = writer, turns
        self._observations: tuple[Observation, ...] = ()
        self._responses: tuple[Tokens, ...] = ()
        self._actions: tuple[str, ...] = ()
        self._hint: str | None = None
        self._tokens = np.empty(0, dtype=np.int64)

    @property
    def tokens(self) -> NDArray[np.int64]:
        return self._tokens

    def begin(self, observation: Observation, hint: str | None = None) -> bool:
        self._observations, self._hint = (observation,), hint
        return self._write() is not None

    def extend(self, response: Tokens, observation: Observation, action: str = "") -> list[int] | None:
        self._observations, self._responses = (*self._observations, observation), (*self._responses, response)
        self._actions = (*self._actions, action)
        return self._write()

    def copy(self) -> Self:
        twin = type(self)(self._writer, self._turns)
        twin._observations, twin._responses, twin._actions = self._observations, self._responses, self._actions
        twin._hint, twin._tokens = self._hint, self._tokens
        return twin

    def _write(self) -> list[int] | None:
        now = len(self._responses)
        tokens, following = self._written(max(0, now - self._turns), now)
        if not self._writer.fits(len(tokens)):
            if self._writer.spec.overlong is Overlong.END:
                return None
            tokens = tokens[-self._writer.room :]
        self._tokens = np.array(tokens, dtype=np.int64)
        return following

    def _written(self, oldest: int, now: int) -> tuple[list[int], list[int]]:
        """The prompt, and what follows the last response in it."""
        task, recent = self._observations[0].text, self._text(oldest)
        tokens = self._writer.first(recent if oldest == 0 else f"{task}\n{recent}", self._hint)
        following: list[int] = []
        for turn in range(oldest, now):
            response, closing = self._writer.past(self._responses[turn]), self._observations[turn + 1].closing
            following = self._writer.following(response, self._text(turn + 1), closing)
            tokens += [*response, *following]
        return tokens, following

    def _text(self, turn: int) -> str:
        observation = self._observations[turn]
        return self._writer.shown(observation) if turn == len(self._responses) else observation.text


class ActionWindow(TurnWindow):
    """A prompt of its own for each turn, in one message: the task, the last observations and actions, what is seen now.

    What verl-agent's prompts show (`agent_system/environments/prompts`), in our words; the reasoning of past turns is
    left out.
    """

    def _written(self, oldest: int, now: int) -> tuple[list[int], list[int]]:
        lines = [self._text(0)] if now == 0 else [self._observations[0].text, *self._past(oldest, now)]
        return self._writer.first("\n".join(lines), self._hint), []

    def _past(self, oldest: int, now: int) -> Iterator[str]:
        yield f"You have taken {counted(now, 'step')}. The last of them, and what you see now:"
        for turn in range(oldest, now):
            if turn:  # the first observation is the task
                yield f"Observation {turn + 1}: {self._text(turn)}"
            yield f"Action {turn + 1}: {self._actions[turn]}"
        yield f"Observation {now + 1}: {self._text(now)}"

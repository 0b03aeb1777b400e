"""What a chat template writes around the texts of a conversation."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from enum import StrEnum
from itertools import cycle
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerFast

from stepcredit.harness.errors import UserError
from stepcredit.harness.model.tokenizer import TAGS, special_tokens

_MARKS = tuple(f"\x00{number}\x00" for number in range(6))  # the instructions, then texts of user and assistant
_SHOWN = 60


class Place(StrEnum):
    """Where a conversation has the instructions."""

    SYSTEM = "system"
    """In a system message."""
    USER = "user"
    """At the head of the first user message, an empty line before the observation."""


class ChatTemplate:
    """A chat template that is a plain concatenation of messages, taken apart.

    What it writes comes as stretches: texts in odd places, the template's own words in even ones. Every text goes
    through the template, so that a template which trims texts (Llama 3, Gemma) gets them trimmed.

    Args:
        instructions: what the agent is told before the first observation.
        place: where they stand; see `read_template`.
        thinking: the template's `enable_thinking`; None does not mention it. With it the template need not ask for a
            response as it writes earlier ones, and only `first` may be followed.

    Attributes:
        control: id by text of all tokens that structure a conversation: those marked as special, and those with which
            the template tells messages apart.
        after: what stands between an observation and its response; begins with a control token.
        between: what stands between a response and the next observation; begins with the end-of-turn token.

    Raises:
        UserError: no template, or one that writes a message differently in another turn, writes something before a
            response that it asks for which it does not write before an earlier response, or has no control token
            after a message.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, instructions: str, place: Place, thinking: bool | None = None
    ) -> None:
        self._tokenizer, self._place = tokenizer, place
        self._thinking = thinking
        self.name = tokenizer.name_or_path or "this model"
        if not tokenizer.chat_template:
            raise UserError(f"the tokenizer of {self.name} has no chat template; choose an instruction-tuned model")
        self._instructions = instructions
        self._require_effect(thinking)
        self._before, lead, self.after, self.between = self._laid_out()
        self.control = special_tokens(tokenizer) | self._told_apart_by(self._before + lead + self.after + self.between)
        self._require_borders()
        self._opening = self._opened(lead)
        self._past = self._rendered(_MARKS[0], _MARKS[1:4]).split(_MARKS[3])[0]

    def first(self, text: str) -> tuple[str, ...]:
        """The opening of a conversation, up to the response that is asked for."""
        known = "".join(self._opening)
        return (*self._opening, self._content(self._rendered(self._instructions, [text]), known, text), self.after)

    def following(self, text: str) -> tuple[str, str, str]:
        """What comes after a response, up to the next."""
        rendered = self._rendered(_MARKS[0], [*_MARKS[1:3], text])
        return self.between, self._content(rendered, self._past, text), self.after

    def own_pieces(self, written: str) -> Iterator[int | str]:
        """The template's own words, with ids for its control tokens."""
        by_length = sorted(self.control, key=len, reverse=True)
        for piece in re.split(f"({'|'.join(map(re.escape, by_length))})", written):
            if piece:
                yield self.control.get(piece, piece)

    def refusal(self, what: str) -> UserError:
        """The error that says why a model cannot be used."""
        return UserError(f"the chat template of {self.name} {what}; choose another model")

    def _laid_out(self) -> tuple[str, str, str, str]:
        """What stands before the instructions, after them, after an observation, and after a response."""
        *opening, asked = self._frames(texts=1)
        *again, after, between, earlier, later, asked_again = self._frames(texts=5)
        self._require_same(opening, again, "opens a conversation with {!r}, a longer one with {!r}")
        self._require_same(between, later, "writes {!r} after the first response, {!r} after the second")
        self._require_same(asked, asked_again, "asks for the first response with {!r}, for the third with {!r}")
        for before in (after, earlier) if self._thinking is None else ():
            self._require_same(asked, before, "asks for a response with {!r}, but before an earlier one it has {!r}")
        before, lead = opening
        return before, lead, asked, between

    def _require_effect(self, thinking: bool | None) -> None:
        if thinking is not None and len({self._rendered("", [""], thinking=asked) for asked in (True, False)}) == 1:
            raise UserError(
                f"rollout.thinking has no effect: the chat template of {self.name} knows no enable_thinking; "
                "leave it out"
            )

    def _frames(self, texts: int) -> list[str]:
        """What is written around the instructions and so many texts."""
        marks = _MARKS[: texts + 1]
        pieces = re.split("(\x00.\x00)", self._rendered(marks[0], marks[1:]))
        if tuple(pieces[1::2]) != marks:
            raise self.refusal("does not write every message once and in order")
        return pieces[::2]

    def _told_apart_by(self, frames: str) -> dict[str, int]:
        """Added tokens in the template's own words; white space and the tags of reasoning are ordinary text."""
        added = self._tokenizer.get_added_vocab().items()
        return {text: index for text, index in added if text in frames and text.strip() and text not in TAGS}

    def _require_same(self, one: object, other: object, what: str) -> None:
        if one != other:
            raise self.refusal(what.format(one, other))

    def _require_borders(self) -> None:
        for name, frame in (("an observation", self.after), ("a response", self.between)):
            if isinstance(next(self.own_pieces(frame), ""), str):
                raise self.refusal(f"puts no control token right after {name}, only {frame!r}")

    def _opened(self, lead: str) -> tuple[str, ...]:
        """Everything before the first observation's message or, where it holds the instructions too, its text."""
        if all(isinstance(piece, str) for piece in self.own_pieces(lead)):
            return (self._before,)
        head = self._rendered(self._instructions, _MARKS[1:2]).split(_MARKS[1])[0]
        if not (head.startswith(self._before) and head.endswith(lead)):
            raise self.refusal(f"writes {head[:_SHOWN]!r} around the benchmark's instructions, around others not")
        return self._before, head[len(self._before) : len(head) - len(lead)], lead

    def _content(self, rendered: str, known: str, text: str) -> str:
        """What the template makes of a text, found between words that are known."""
        if not (rendered.startswith(known) and rendered.endswith(self.after)):
            raise self.refusal(f"writes other words around the observation {text[:_SHOWN]!r} than around others")
        return rendered[len(known) : len(rendered) - len(self.after)]

    def _rendered(self, instructions: str, texts: Sequence[str], *, thinking: bool | None = None) -> str:
        """A conversation whose last text is an observation, and the prompt for a response."""
        asked = self._thinking if thinking is None else thinking
        options: dict[str, Any] = {} if asked is None else {"enable_thinking": asked}
        if self._place is Place.SYSTEM:
            opening = [{"role": "system", "content": instructions}, {"role": "user", "content": texts[0]}]
        else:
            opening = [{"role": "user", "content": f"{instructions}\n\n{texts[0]}"}]
        roles = cycle(("assistant", "user"))
        rest = [{"role": role, "content": text} for role, text in zip(roles, texts[1:], strict=False)]
        try:
            rendered = self._tokenizer.apply_chat_template(
                [*opening, *rest],
                tokenize=False,
                add_generation_prompt=True,
                **options,
            )
        except TemplateError as error:
            raise self.refusal(f"refuses a conversation with a {self._place} message ({error})") from error
        return str(rendered)


def read_template(tokenizer: PreTrainedTokenizerFast, instructions: str, thinking: bool | None = None) -> ChatTemplate:
    """A tokenizer's template, with the instructions where it takes them.

    They are a system message. Where a template refuses one (Gemma 2), drops it, or moves it from turn to turn, they
    head the first user message.

    Raises:
        UserError: as `ChatTemplate` does, about the system message.
    """
    try:
        return ChatTemplate(tokenizer, instructions, Place.SYSTEM, thinking)
    except UserError as refusal:
        with suppress(UserError):
            return ChatTemplate(tokenizer, instructions, Place.USER, thinking)
        raise refusal

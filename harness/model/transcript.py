"""How a conversation becomes tokens: prompts, observations, hindsight.

One running transcript per episode: first prompt, response, observation, response, ... Text is tokenized once,
when it enters; responses are the tokens that were drawn. Texts are data: a control token's text in an observation, a
hint or a demonstration is encoded letter by letter, so that none of them can open a message.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

from transformers import PreTrainedTokenizerFast

from stepcredit.harness.model.tokenizer import (
    HINDSIGHT,
    OBSERVATION,
    TURN,
    literal_encoder,
    special_tokens,
    token_bytes_table,
)


class Transcript(Protocol):
    """Turns the environment's text into the tokens of a policy's format."""

    @property
    def generation_suffix(self) -> tuple[int, ...]:
        """The last tokens of every prompt; a hindsight block goes right before them."""
        ...

    @property
    def end_of_turn(self) -> int | None:
        """The token that `following` begins with, where a model may have ended its response with it already."""
        ...

    def first(self, text: str) -> list[int]:
        """Tokens of an episode's first prompt, ending in the generation suffix."""
        ...

    def following(self, text: str, closing: str = "", limit: int | None = None) -> list[int]:
        """Tokens appended after a response: the end of turn, the observation, then the generation suffix.

        Where there is a limit and more tokens than that stand before the suffix, the text's end is cut off and
        `closing` put in its place.
        """
        ...

    def hindsight(self, text: str) -> list[int]:
        """Tokens of a hindsight block."""
        ...

    def response(self, text: str) -> list[int]:
        """Tokens of a response that somebody else wrote, such as a demonstration's."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for."""
        ...


class PhraseTranscript:
    """The format of the embedded policy: one marker before each observation, hint and response.

    Tags and phrases are ordinary tokens, wherever they occur; the markers are control tokens.
    """

    end_of_turn: int | None = None

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        control = special_tokens(tokenizer)
        self._literal = literal_encoder(tokenizer, control)
        self._observation, self._hindsight = control[OBSERVATION], control[HINDSIGHT]
        self._bytes = token_bytes_table(tokenizer)
        self._encode = lru_cache(maxsize=65536)(self._encode_uncached)
        self.generation_suffix: tuple[int, ...] = (control[TURN],)

    def first(self, text: str) -> list[int]:
        return self.following(text)

    def following(self, text: str, closing: str = "", limit: int | None = None) -> list[int]:
        tokens = (self._observation, *self._encode(text))
        if limit is not None and len(tokens) > limit:
            end = self._encode(closing)
            tokens = (*tokens[: max(limit - len(end), 1)], *end)
        return [*tokens, *self.generation_suffix]

    def hindsight(self, text: str) -> list[int]:
        return [self._hindsight, *self._encode(text)]

    def response(self, text: str) -> list[int]:
        return list(self._encode(text))

    def token_bytes(self, token_id: int) -> bytes:
        return self._bytes[token_id]

    def _encode_uncached(self, text: str) -> tuple[int, ...]:
        return tuple(self._literal(text))

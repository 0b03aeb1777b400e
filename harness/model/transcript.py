"""How a conversation becomes tokens: prompts, observations, hindsight.

One running transcript an episode: first prompt, response, observation, response, ... Text is tokenized once,
when it enters; responses are the tokens that were drawn.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

from transformers import PreTrainedTokenizerFast

from stepcredit.harness.model.tokenizer import HINDSIGHT, OBSERVATION, TURN, token_bytes_table


class Transcript(Protocol):
    """Turns the environment's text into the tokens of a policy's format."""

    @property
    def generation_suffix(self) -> tuple[int, ...]:
        """The last tokens of every prompt; a hindsight block goes right before them."""
        ...

    def first(self, text: str) -> list[int]:
        """Tokens of an episode's first prompt, ending in the generation suffix."""
        ...

    def following(self, text: str) -> list[int]:
        """Tokens appended after a response: the observation, then the generation suffix."""
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
    """The format of the embedded policy: one marker before each observation, hint and response."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self._bytes = token_bytes_table(tokenizer)
        self._encode = lru_cache(maxsize=65536)(self._encode_uncached)
        self.generation_suffix: tuple[int, ...] = self._encode(TURN)

    def first(self, text: str) -> list[int]:
        return self.following(text)

    def following(self, text: str) -> list[int]:
        return [*self._encode(OBSERVATION + text), *self.generation_suffix]

    def hindsight(self, text: str) -> list[int]:
        return list(self._encode(HINDSIGHT + text))

    def response(self, text: str) -> list[int]:
        return list(self._encode(text))

    def token_bytes(self, token_id: int) -> bytes:
        return self._bytes[token_id]

    def _encode_uncached(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False))

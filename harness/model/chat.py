"""Transcripts of instruction-tuned models: their own chat template, one user message an observation."""

from __future__ import annotations

from bisect import bisect_right
from itertools import groupby

from transformers import PreTrainedTokenizerFast

from stepcredit.harness.model.template import read_template
from stepcredit.harness.model.tokenizer import literal_encoder, token_bytes_table

_HINDSIGHT = " Commands of an episode of this task that succeeded:\n"  # a space begins a token, whatever stands before
_PROBE = " \n\n a room \n "


class ChatTranscript:
    """The tokens of a model's own chat template, in which responses are the tokens that were drawn.

    In every turn the model reads what the template writes for the same conversation, tokenized as the template's text
    would be from one response to the next: control tokens are the template's alone, and its words merge with the
    texts between them as they do in the whole. Responses are put where the template has theirs and are never
    tokenized again, reasoning included: a template that drops earlier reasoning (Qwen3) drops none of theirs, because
    a policy is trained on what it has read and written. The same holds for what follows from it: a hindsight block
    and the first prompt's text are tokenized apart, as two texts of one message.

    Unless `thinking` is said, templates are called without options: Qwen3 thinks. A template that begins responses
    itself with words which it does not keep in earlier ones, such as an opened or an empty `<think>`, is refused then,
    as is all else that would make an earlier turn read differently later; see `template.ChatTemplate`.

    Args:
        instructions: the system message; see `template.read_template` for models that have none.
        thinking: the template's `enable_thinking`; with it only prompts of one message follow the template.

    Raises:
        UserError: the template cannot be followed to the token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, instructions: str, thinking: bool | None = None) -> None:
        self._template = read_template(tokenizer, instructions, thinking)
        self._literal = literal_encoder(tokenizer, self._template.control)
        self._bytes = token_bytes_table(tokenizer)
        self.generation_suffix: tuple[int, ...] = tuple(self._encode(self._template.after))
        self.end_of_turn: int | None = self._encode(self._template.between)[0]
        self._require_exact(tokenizer)

    def first(self, text: str) -> list[int]:
        return self._encode(*self._template.first(text))

    def following(self, text: str, closing: str = "", limit: int | None = None) -> list[int]:
        tokens = self._encode(*self._template.following(text))
        if limit is None or len(tokens) - len(self.generation_suffix) <= limit:
            return tokens
        return self._cut(text, closing, limit + len(self.generation_suffix))

    def hindsight(self, text: str) -> list[int]:
        _, shown, _ = self._template.following(f"x{_HINDSIGHT}{text}")
        return self._literal(shown.removeprefix("x"))

    def response(self, text: str) -> list[int]:
        return self._literal(text)

    def token_bytes(self, token_id: int) -> bytes:
        return self._bytes[token_id]

    def _cut(self, text: str, closing: str, limit: int) -> list[int]:
        """With as many of the text's characters as the limit allows, tokenized anew together with the closing words."""

        def shortened(characters: int) -> list[int]:
            return self._encode(*self._template.following(text[:characters] + closing))

        fitting = bisect_right(range(len(text)), limit, key=lambda characters: len(shortened(characters))) - 1
        return shortened(max(fitting, 0))

    def _encode(self, *pieces: str) -> list[int]:
        """A stretch of the template: its own words in even places, texts in odd ones."""
        mixed: list[int | str] = []
        for place, piece in enumerate(pieces):
            mixed += [piece] if place % 2 else self._template.own_pieces(piece)
        tokens: list[int] = []
        for kind, stretch in groupby(mixed, key=type):
            alike = list(stretch)
            tokens += self._literal("".join(map(str, alike))) if kind is str else map(int, alike)
        return tokens

    def _require_exact(self, tokenizer: PreTrainedTokenizerFast) -> None:
        """Ask the tokenizer itself, once."""
        control = self._template.control
        for text in control:
            if set(control.values()).intersection(self._literal(f"a{text}b")):
                raise self._template.refusal(
                    f"has the control token {text!r}, which its tokenizer cannot write as text"
                )
        for pieces in (self._template.first(_PROBE), self._template.following(_PROBE)):
            if self._encode(*pieces) != tokenizer.encode("".join(pieces), add_special_tokens=False):
                raise self._template.refusal(f"writes {''.join(pieces)!r}, which its tokenizer takes in other pieces")

"""Transcripts of instruction-tuned models: their own chat template, one user message an observation."""

from __future__ import annotations

from transformers import PreTrainedTokenizerFast

from stepcredit.harness.model.tokenizer import token_bytes_table

_HINDSIGHT = "\n\nCommands of an episode of this task that succeeded:\n"
_MARK = "\x00observation\x00"


class ChatTranscript:
    """Renders through the tokenizer's chat template, once per piece, so that token boundaries never move.

    The pieces around a user message are cut out of the rendered template; a model whose template is not a plain
    concatenation of messages is refused by the cut itself.

    Args:
        instructions: the system message.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, instructions: str) -> None:
        self._tokenizer = tokenizer
        self._bytes = token_bytes_table(tokenizer)
        opening = self._render([{"role": "system", "content": instructions}, {"role": "user", "content": _MARK}])
        self._head, self._tail = opening.split(_MARK)
        second = [{"role": "assistant", "content": _MARK}, {"role": "user", "content": _MARK}]
        rendered = self._render([{"role": "user", "content": "x"}, *second])
        _, self._between, closing = rendered.split(_MARK)
        if closing != self._tail:
            raise ValueError(f"the chat template of {tokenizer.name_or_path!r} renders a second turn unlike a first")
        turn = self._tail.rindex("<|im_start|>")
        self._close_user = self._tail[:turn]
        self.generation_suffix: tuple[int, ...] = (*self._encode(self._close_user), *self._encode(self._tail[turn:]))

    def first(self, text: str) -> list[int]:
        return [*self._encode(self._head + text), *self.generation_suffix]

    def following(self, text: str) -> list[int]:
        return [*self._encode(self._between + text), *self.generation_suffix]

    def hindsight(self, text: str) -> list[int]:
        return self._encode(_HINDSIGHT + text)

    def response(self, text: str) -> list[int]:
        return self._encode(text)

    def token_bytes(self, token_id: int) -> bytes:
        return self._bytes[token_id]

    def _render(self, messages: list[dict[str, str]]) -> str:
        return str(self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))

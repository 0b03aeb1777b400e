"""Exact spans while a response is generated: which tokens are the reasoning, which the action, and when it is done."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

from methods.contract import Span

_THINK, _END_THINK = b"<think>", b"</think>"
_ACTION, _END_ACTION = b"<action>", b"</action>"


class TurnTracker:
    """Follows one response token by token.

    Works on the bytes that tokens stand for, so a tag may be one token, span several, or share a token with its
    neighbours. A token belongs to a span if its first byte lies between the tags. The action is what lies between
    the first `<action>` and the next `</action>`, which ends the turn; the reasoning lies between the first
    `<think>` and the next `</think>` if both come before the action.

    Args:
        token_bytes: the bytes that a token id stands for.
    """

    __slots__ = ("_buffer", "_end", "_starts", "_token_bytes")

    def __init__(self, token_bytes: Callable[[int], bytes]) -> None:
        self._token_bytes = token_bytes
        self._buffer = bytearray()
        self._starts: list[int] = []
        self._end = -1

    def push(self, token_id: int) -> bool:
        """Take the next token; returns whether the turn is done."""
        piece = self._token_bytes(token_id)
        self._starts.append(len(self._buffer))
        self._buffer += piece
        if self._end < 0 and b">" in piece:
            self._end = self._closing()
        return self._end >= 0

    @property
    def done(self) -> bool:
        """Whether the action has been closed."""
        return self._end >= 0

    @property
    def action(self) -> Span | None:
        """The action's tokens, tags excluded; None before it is closed."""
        if self._end < 0:
            return None
        return self._span(self._buffer.find(_ACTION) + len(_ACTION), self._end)

    @property
    def think(self) -> Span | None:
        """The reasoning's tokens, tags excluded; None where there is none."""
        opened = self._buffer.find(_ACTION)
        limit = len(self._buffer) if opened < 0 else opened
        start = self._buffer.find(_THINK, 0, limit)
        end = self._buffer.find(_END_THINK, start + len(_THINK), limit) if start >= 0 else -1
        return self._span(start + len(_THINK), end) if end >= 0 else None

    @property
    def action_text(self) -> str:
        """The action without surrounding white space; empty before it is closed."""
        if self._end < 0:
            return ""
        start = self._buffer.find(_ACTION) + len(_ACTION)
        return self._buffer[start : self._end].decode("utf-8", "replace").strip()

    def _closing(self) -> int:
        """Where the tag that ends the turn begins, else -1."""
        opened = self._buffer.find(_ACTION)
        return self._buffer.find(_END_ACTION, opened + len(_ACTION)) if opened >= 0 else -1

    def _span(self, start: int, end: int) -> Span:
        return Span(bisect_left(self._starts, start), bisect_left(self._starts, end))

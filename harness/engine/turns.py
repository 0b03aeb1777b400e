"""Exact spans while a response is generated: which tokens are the reasoning, which the action, and when it is done."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

from stepcredit.methods.contract import Span

_THINK, _END_THINK = b"<think>", b"</think>"


@dataclass(frozen=True, slots=True)
class _Closed:
    """Where the action lies in the text, and the tag around it; `start` is -1 where the tags do not match."""

    start: int
    end: int
    tag: str


class TurnTracker:
    """Follows one response token by token.

    Works on the bytes that tokens stand for, so a tag may be one token, span several, or share a token with its
    neighbours. A token belongs to a span if its first byte lies between the tags. The first opening tag of an action
    begins it; the first closing tag of any action after that ends the turn, and where it is not the same action's
    the turn has none. The reasoning lies between the first `<think>` and the next `</think>` if both come before the
    action.

    Args:
        token_bytes: the bytes that a token id stands for.
        actions: names of the tags that an action may stand between; see `stepcredit.envs.contract.TurnFormat`.
    """

    __slots__ = ("_actions", "_buffer", "_closed", "_starts", "_token_bytes")

    def __init__(self, token_bytes: Callable[[int], bytes], actions: tuple[str, ...] = ("action",)) -> None:
        self._token_bytes = token_bytes
        self._actions = actions
        self._buffer = bytearray()
        self._starts: list[int] = []
        self._closed: _Closed | None = None

    def push(self, token_id: int) -> bool:
        """Take the next token; returns whether the turn is done."""
        piece = self._token_bytes(token_id)
        self._starts.append(len(self._buffer))
        self._buffer += piece
        if self._closed is None and b">" in piece:
            self._closed = self._closing()
        return self._closed is not None

    @property
    def done(self) -> bool:
        """Whether an action's closing tag has ended the turn."""
        return self._closed is not None

    @property
    def action(self) -> Span | None:
        """The action's tokens, tags excluded; None where there is none, or before it is closed."""
        if self._closed is None or self._closed.start < 0:
            return None
        return self._span(self._closed.start, self._closed.end)

    @property
    def tagged(self) -> Span | None:
        """The action's tokens with its tags; None where there is none, or before it is closed."""
        if self._closed is None or self._closed.start < 0:
            return None
        tag = len(self._closed.tag)
        return self._span(self._closed.start - tag - 2, self._closed.end + tag + 3)

    @property
    def text(self) -> str:
        """The whole response."""
        return self._buffer.decode("utf-8", "replace")

    @property
    def think(self) -> Span | None:
        """The reasoning's tokens, tags excluded; None where there is none."""
        opened, _ = self._opening()
        limit = len(self._buffer) if opened < 0 else opened
        start = self._buffer.find(_THINK, 0, limit)
        end = self._buffer.find(_END_THINK, start + len(_THINK), limit) if start >= 0 else -1
        return self._span(start + len(_THINK), end) if end >= 0 else None

    @property
    def action_text(self) -> str:
        """The action as environments take it, without surrounding white space; empty where there is none."""
        closed = self._closed
        if closed is None or closed.start < 0:
            return ""
        text = self._buffer[closed.start : closed.end].decode("utf-8", "replace").strip()
        return text if len(self._actions) == 1 else f"<{closed.tag}>{text}</{closed.tag}>"

    @property
    def action_tag(self) -> str:
        """Name of the tags that the action stands between; empty where there is none."""
        return "" if self.action is None or self._closed is None else self._closed.tag

    def _opening(self) -> tuple[int, str]:
        """Where the first opening tag of an action begins, and its name; -1 where there is none."""
        found = ((self._buffer.find(f"<{tag}>".encode()), tag) for tag in self._actions)
        return min((place for place in found if place[0] >= 0), default=(-1, ""))

    def _closing(self) -> _Closed | None:
        """The action that has been closed, None while there is none."""
        opened, tag = self._opening()
        if opened < 0:
            return None
        start = opened + len(tag) + 2
        ends = ((self._buffer.find(f"</{name}>".encode(), start), name) for name in self._actions)
        end, name = min((place for place in ends if place[0] >= 0), default=(-1, ""))
        if end < 0:
            return None
        return _Closed(start if name == tag else -1, end, tag)

    def _span(self, start: int, end: int) -> Span:
        return Span(bisect_left(self._starts, start), bisect_left(self._starts, end))

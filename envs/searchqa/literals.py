"""Lists and mappings that JSON, Python or numpy wrote as text, read by a grammar of its own: nothing is evaluated.

A list is `["a", "b"]`, `['a', 'b']`, numpy's `['a' 'b']` or `array(['a', 'b'], dtype=object)`; a tuple, a set and a
mapping are written as in Python.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping

_TOKEN = re.compile(
    r"""(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.]))
    |(?P<word>true|false|null|True|False|None)\b
    |(?P<open>(?:(?:np\.|numpy\.)?(?:str_|array))?\(|\[|\{)
    |(?P<close>[])}])
    |(?P<mark>,\s*dtype=[^()]*|[,:])""",
    re.VERBOSE | re.DOTALL,
)
_SPACE = re.compile(r"\s*")
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_WORDS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}
_DEEPEST = 20


def read_literal(text: str) -> object:
    """The value that the text is the written form of: lists, tuples, mappings, texts, numbers, truth values, None.

    Tuples keep their type, a set is a frozenset's list in the order written, an array is a list.

    Raises:
        ValueError: the text is nothing of the kind, is cut off or abbreviated, or is nested more than 20 deep.
    """
    reader = _Reader(text)
    value = reader.value(0)
    if reader.kind:
        raise ValueError(f"more follows at character {reader.start}")
    return value


class _Reader:
    """One token of look-ahead over the text."""

    def __init__(self, text: str) -> None:
        self._text, self._end = text, 0
        self._advance()

    def value(self, depth: int) -> object:
        kind, token = self.kind, self.token
        if depth > _DEEPEST:
            raise ValueError(f"nested more than {_DEEPEST} deep")
        if kind not in _LEAVES and kind != "open":
            raise ValueError(f"no value at character {self.start}")
        self._advance()
        return self._group(token, depth + 1) if kind == "open" else _LEAVES[kind](token)

    def _group(self, opening: str, depth: int) -> object:
        """What stands between brackets, whose opening has been read."""
        items: list[object] = []
        keyed, commas = False, 0
        while self.token != _CLOSING[opening[-1]] or self.kind != "close":
            self._require_gap(items, commas)
            item = self.value(depth)
            if self.token == ":" and opening == "{" and isinstance(item, str):
                self._advance()
                keyed, item = True, (item, self.value(depth))
            items.append(item)
            if self.kind == "mark" and self.token != ":":
                commas += 1
                self._advance()
        self._advance()
        return _made(opening, items, keyed=keyed, commas=commas)

    def _require_gap(self, items: list[object], commas: int) -> None:
        if items and commas < len(items) and not self.spaced:
            raise ValueError(f"no comma at character {self.start}")

    def _advance(self) -> None:
        space = _SPACE.match(self._text, self._end)
        self.start = space.end() if space else self._end
        self.spaced = self.start > self._end
        found = _TOKEN.match(self._text, self.start)
        if found is None and self.start < len(self._text):
            raise ValueError(f"nothing known at character {self.start}")
        self.kind, self.token = (found.lastgroup or "", found[0]) if found else ("", "")
        self._end = found.end() if found else self.start


def _made(opening: str, items: list[object], *, keyed: bool, commas: int) -> object:
    if keyed:
        return _mapping(items)
    if opening == "(":
        return items[0] if len(items) == 1 and not commas else tuple(items)
    if opening.endswith("("):
        if len(items) != 1:
            raise ValueError(f"{opening}...) of {len(items)} values")
        return items[0]
    return {} if opening == "{" and not items else items


def _mapping(items: list[object]) -> Mapping[str, object]:
    pairs = [item for item in items if isinstance(item, tuple) and len(item) == 2]
    if len(pairs) < len(items):
        raise ValueError("keys without a value")
    return dict(pairs)


def _text(token: str) -> str:
    """JSON's escapes and Python's differ; a text in single quotes is Python's."""
    if token.startswith('"'):
        try:
            return str(json.loads(token, strict=False))
        except ValueError:
            pass
    try:
        return str(ast.literal_eval(token.replace("\n", "\\n").replace("\r", "\\r")))
    except SyntaxError as error:
        raise ValueError(f"{token[:20]} has an unknown escape") from error


def _number(token: str) -> int | float:
    return float(token) if set(token) & set(".eE") else int(token)


_LEAVES: Mapping[str, Callable[[str], object]] = {"text": _text, "number": _number, "word": _WORDS.__getitem__}

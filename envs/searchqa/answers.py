"""Gold answers out of whatever a file holds them in: a text, a number, a list, or a list that was written as text."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from stepcredit.envs.searchqa.literals import read_literal

_NUMPY = r"(?:np\.|numpy\.)?(?:str_|array)\("
_LIST = re.compile(rf"""\[\s*(?:[\[(]\s*)*(?:['"]|{_NUMPY}|(?:null|None|nan)\s*[,\]])|{_NUMPY}""")
_MAPPING = re.compile(r"""\{\s*['"]""")
_BRACKET = re.compile(rf"[\[({{]|{_NUMPY}")
_DEEPEST = 4


def answer_texts(value: object) -> list[str]:
    """The answers in `value`, which is a text, a number, a list or array of them, or {"target": any of these}.

    A list written as text (`["a", "b"]`, `['a' 'b']`) is read; other texts in brackets, as `[sic]`, are themselves.

    Raises:
        ValueError: it is something else, or begins as a list written as text and cannot be read as one.
    """
    return _texts(value, 0)


def mapping_of(value: object) -> Mapping[str, Any]:
    """The mapping that `value` is, or that it was written as text from; empty for anything else."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = read_literal(value.strip())
        except ValueError:
            return {}
    return value if isinstance(value, Mapping) else {}


def list_of(value: object) -> list[Any]:
    """The items of a list, tuple or array, or of a list that was written as text; none for anything else."""
    value = plain(value)
    if isinstance(value, str) and value.lstrip().startswith(("[", "array(")):
        try:
            value = read_literal(value.strip())
        except ValueError:
            return []
    return list(value) if isinstance(value, list | tuple) else []


def plain(value: object) -> object:
    """The value without numpy: an array as a list, an array's scalar as Python's own."""
    return value.tolist() if hasattr(value, "tolist") else value


def _texts(value: object, depth: int) -> list[str]:
    value = plain(value)
    match value:
        case str():
            return _written(value, alone=depth == 0)
        case bool():
            raise ValueError("a truth value")
        case int() | float() | Decimal():
            return [number_text(value)]
        case {"target": target} if target is not None:
            return _texts(target, depth)
        case list() | tuple() if depth < _DEEPEST:
            return [text for each in value for text in _texts(each, depth + 1)]
    raise ValueError("neither a text nor a list of texts")


def number_text(value: float | Decimal) -> str:
    """The number as a file would write it; pandas turns whole numbers into floats where others are missing.

    Raises:
        ValueError: it is not a number.
    """
    if not math.isfinite(value):
        raise ValueError("not a number")
    return str(int(value)) if value == int(value) else str(value)


def _written(text: str, *, alone: bool) -> list[str]:
    """The texts of a list that was written as text, or the text itself.

    Args:
        alone: whether the text stands where a list is expected; in a list, a text in brackets may well be an answer.
    """
    candidate = text.strip()
    if not _BRACKET.match(candidate):
        return [text]
    try:
        found = _listed(read_literal(candidate), alone=alone)
    except ValueError as error:
        if _surely_a_list(candidate, alone=alone):
            raise ValueError(f"a list written as text that cannot be read ({error})") from error
        return [text]
    return [text] if found is None else found


def _listed(value: object, *, alone: bool) -> list[str] | None:
    """The texts in a value that was read, or None where the text is more likely an answer of its own."""
    if isinstance(value, list) and (alone or _all_texts(value)):
        return _texts(value, 1)
    if isinstance(value, tuple) and len(value) > 1 and _all_texts(value):
        return _texts(value, 1)
    if isinstance(value, Mapping) and alone:
        return _texts(value, 0)
    return None


def _all_texts(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, list | tuple) and all(map(_all_texts, value)))


def _surely_a_list(text: str, *, alone: bool) -> bool:
    if alone:
        return bool(_LIST.match(text) or _MAPPING.match(text))
    return bool(_LIST.match(text)) and text.endswith(("]", ")"))

"""JSON from outside: what is too deeply nested to be handled is refused like what is no JSON."""

from __future__ import annotations

import json
from typing import Any

MAX_DEPTH = 100


class JsonError(ValueError):
    """The text is not JSON, or nested too deeply: a clause that says which."""


def parse(text: str | bytes) -> Any:
    """The value that the text stands for.

    Raises:
        JsonError: it is not JSON, or nested deeper than `MAX_DEPTH`.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise JsonError(f"nested deeper than {MAX_DEPTH} levels") from error
    except ValueError as error:
        raise JsonError(str(error)) from error
    if _is_deep(value):
        raise JsonError(f"nested deeper than {MAX_DEPTH} levels")
    return value


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return False
    return True


def _inside(value: Any) -> list[Any]:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [child for child in children if isinstance(child, dict | list)]

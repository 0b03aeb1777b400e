"""The methods by name: our own in one literal dict, others through the entry-point group `stepcredit.methods`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from pydantic import ValidationError

from methods.contract import Method, MethodError
from methods.grpo import Grpo
from methods.opd import Opd
from methods.stepopsd import StepOpsd

GROUP = "stepcredit.methods"

METHODS: Mapping[str, type[Method]] = {
    "grpo": Grpo,
    "opd": Opd,
    "stepopsd": StepOpsd,
}


def registered() -> dict[str, type[Method]]:
    """All methods: our own first, then those that installed packages register.

    Raises:
        MethodError: an entry point takes a name that is taken, or is not a method.
    """
    found = dict(METHODS)
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        if point.name in found:
            raise MethodError(
                f"entry point {point.value!r} registers the method {point.name!r}, but that name is taken by "
                f"{found[point.name].__module__}; rename one of them"
            )
        loaded = point.load()
        if not (isinstance(loaded, type) and issubclass(loaded, Method)):
            raise MethodError(f"entry point {point.value!r} of method {point.name!r} is not a subclass of Method")
        found[point.name] = loaded
    return found


def method_named(name: str) -> type[Method]:
    """Look a method up.

    Raises:
        MethodError: no method has that name; the message suggests the nearest.
    """
    known = registered()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise MethodError(f"unknown method {name!r}: {hint}known methods are {', '.join(known)}")


def build(name: str, options: Mapping[str, Any]) -> Method:
    """The method with these options, completed with its defaults.

    Raises:
        MethodError: unknown method or option, or a value out of range.
    """
    method = method_named(name)
    try:
        return method(method.Config.model_validate(dict(options)))
    except ValidationError as error:
        first = error.errors()[0]
        option = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = list(method.Config.model_fields)
            near = difflib.get_close_matches(option, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise MethodError(
                f"method {name!r} has no option {option!r}: {hint}its options are {', '.join(known) or 'none'}"
            ) from error
        raise MethodError(
            f"option {option!r} of method {name!r}: {first['msg']}, but the value is {first['input']!r}"
        ) from error

"""The methods by name: our own in one literal dict, others through the entry-point group `stepcredit.methods`."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import ValidationError

from stepcredit.methods.agentopsd import AgentOpsd
from stepcredit.methods.contract import Method, MethodError
from stepcredit.methods.gigpo import Gigpo
from stepcredit.methods.grpo import Grpo
from stepcredit.methods.opd import Opd
from stepcredit.methods.rlcsd import Rlcsd
from stepcredit.methods.rlsd import Rlsd
from stepcredit.methods.rlsd_ectr import RlsdEctr
from stepcredit.methods.sdar import Sdar
from stepcredit.methods.stepopsd import StepOpsd
from stepcredit.methods.vineppo import VinePpo

GROUP = "stepcredit.methods"

METHODS: Mapping[str, type[Method]] = {
    "grpo": Grpo,
    "opd": Opd,
    "stepopsd": StepOpsd,
    "rlsd": Rlsd,
    "sdar": Sdar,
    "agentopsd": AgentOpsd,
    "gigpo": Gigpo,
    "vineppo": VinePpo,
    "rlcsd": Rlcsd,
    "rlsd_ectr": RlsdEctr,
}


def registered() -> dict[str, type[Method]]:
    """All methods: our own first, then those that installed packages register, by name.

    Raises:
        MethodError: an entry point takes a name that is taken, cannot be loaded, or is not a whole method.
    """
    return {**METHODS, **{name: _loaded(point) for name, point in _outside().items()}}


def method_names() -> list[str]:
    """The names of all methods, as in `registered`; no package is imported for them.

    Raises:
        MethodError: an entry point takes a name that is taken.
    """
    return [*METHODS, *_outside()]


def method_named(name: str) -> type[Method]:
    """Look a method up; of the packages that register methods only the one asked for is imported.

    Raises:
        MethodError: no method has that name (the message suggests the nearest), or as in `registered`.
    """
    outside = _outside()
    if name in METHODS:
        return METHODS[name]
    if name in outside:
        return _loaded(outside[name])
    known = [*METHODS, *outside]
    raise MethodError(f"unknown method {name!r}: {_suggestion(name, known)}known methods are {', '.join(known)}")


def build(name: str, options: Mapping[str, Any]) -> Method:
    """The method with these options, completed with its defaults.

    Raises:
        MethodError: unknown method or option, or a value out of range.
    """
    method = method_named(name)
    try:
        return method(method.Config.model_validate(dict(options)))
    except ValidationError as error:
        raise MethodError(_explained(name, method, error)) from error


def resolved_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options completed with the method's defaults, as JSON values.

    Raises:
        MethodError: as in `build`.
    """
    return build(name, options).options()


def _outside() -> dict[str, EntryPoint]:
    """The entry points by name, not yet loaded."""
    holders = {name: method.__module__ for name, method in METHODS.items()}
    found: dict[str, EntryPoint] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        if point.name in holders:
            raise MethodError(
                f"entry point {point.value!r} registers the method {point.name!r}, but that name is taken by "
                f"{holders[point.name]!r}; rename one of them, or uninstall its package"
            )
        holders[point.name], found[point.name] = point.value, point
    return found


def _loaded(point: EntryPoint) -> type[Method]:
    where = f"method {point.name!r} of entry point {point.value!r}"
    try:
        found = point.load()
    except (ImportError, AttributeError) as error:
        raise MethodError(f"{where} cannot be loaded: {error}; repair or uninstall its package") from error
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise MethodError(f"{where} is not a subclass of stepcredit.methods.contract.Method")
    missing = [field for field in ("name", "paper", "traits") if not hasattr(found, field)]
    missing += ["credit"] if inspect.isabstract(found) else []
    if missing:
        raise MethodError(f"{where} lacks {', '.join(missing)}")
    if found.name != point.name:
        raise MethodError(f"{where} calls itself {found.name!r}; give both the same name")
    return found


def _explained(name: str, method: type[Method], error: ValidationError) -> str:
    """One sentence about the first thing that pydantic found wrong."""
    first = error.errors()[0]
    option = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = list(method.Config.model_fields)
        listed = f"its options are {', '.join(known)}" if known else "it takes none"
        return f"method {name!r} has no option {option!r}: {_suggestion(option, known)}{listed}"
    complaint = first["msg"].removeprefix("Value error, ")
    subject = f"option {option!r} of method {name!r}" if option else f"options of method {name!r}"
    return f"{subject}: {complaint[:1].lower()}{complaint[1:]}, but the value is {first['input']!r}"


def _suggestion(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]!r}? " if near else ""

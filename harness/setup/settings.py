"""From the words of a command line to a RunSpec."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any

from pydantic import BaseModel, ValidationError

from stepcredit.envs import BENCHMARKS, complete_options
from stepcredit.harness.errors import UserError
from stepcredit.harness.model.presets import preset_named
from stepcredit.harness.spec import RunSpec

_CHOSEN_BY_OPTION = {"model", "benchmark", "suite", "method", "seed"}


def build_spec(
    *,
    model: str,
    benchmark: str,
    suite: str | None,
    method: str,
    seed: int,
    overrides: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
) -> RunSpec:
    """The preset's settings, then the overrides, then the benchmark's and the method's defaults for what is left open.

    Args:
        model: preset of the policy.
        benchmark: registered benchmark.
        suite: its variant; None takes the preset's.
        method: registered method.
        seed: run seed.
        overrides: `section.field=value` texts; values are JSON, or plain text.
        settings: dotted paths and values, such as a published recipe's, in place of the preset's settings.

    Raises:
        UserError: unknown preset or setting, or a value out of range.
        EnvError: unknown benchmark or option of it.
        MethodError: unknown method or option of it.
    """
    from stepcredit.methods.registry import build

    recipe = preset_named(model).recipe(one_of("benchmark", benchmark, BENCHMARKS))
    content: dict[str, Any] = deepcopy(dict(recipe.settings)) if settings is None else {}
    content["method_options"] = dict(recipe.method_options.get(method, {}))
    for path, value in (settings or {}).items():
        _put(content, path, value)
    for text in overrides:
        _apply(content, text)
    content |= {
        "model": model,
        "benchmark": benchmark,
        "suite": suite or recipe.suite,
        "env_options": complete_options(benchmark, content.get("env_options", {})),
        "method": method,
        "method_options": build(method, content["method_options"]).options(),
        "seed": seed,
    }
    return _validated(content)


def known_settings() -> list[str]:
    """What `--set` takes, as dotted paths."""
    return sorted(path for path in _paths(RunSpec) if path.split(".")[0] not in _CHOSEN_BY_OPTION)


def one_of(kind: str, name: str, known: Iterable[str]) -> str:
    """The name itself.

    Raises:
        UserError: it is not known; suggests the nearest.
    """
    names = list(known)
    if name in names:
        return name
    raise UserError(f"unknown {kind} {name!r}: {_suggestion(name, names)}known are {', '.join(names)}")


def _apply(content: dict[str, Any], text: str) -> None:
    path, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--set {text!r} lacks a value; write it as --set {path}=VALUE")
    if not path.startswith(("method_options.", "env_options.")):
        one_of("setting", path, known_settings())
    _put(content, path, _parsed(value))


def _put(content: dict[str, Any], path: str, value: Any) -> None:
    *sections, name = path.split(".")
    for section in sections:
        content = content.setdefault(section, {})
    content[name] = value


def _parsed(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


def _validated(content: Mapping[str, Any]) -> RunSpec:
    try:
        return RunSpec.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        raise UserError(f"setting {path}: {first['msg'].lower()}, but the value is {first['input']!r}") from error


def _paths(model: type[BaseModel], prefix: str = "") -> Iterable[str]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _paths(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _suggestion(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}? " if near else ""

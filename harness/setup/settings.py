"""From the words of a command line to a RunSpec."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, TypeGuard

from pydantic import BaseModel, ValidationError

from stepcredit.envs import benchmark_names, complete_options, family_of
from stepcredit.envs.family import Suite
from stepcredit.harness.engine.vllm import TESTED, vllm_version
from stepcredit.harness.errors import UserError
from stepcredit.harness.model.presets import Source, preset_named
from stepcredit.harness.spec import EngineName, Luck, Penalised, Reference, RolloutSpec, RunSpec
from stepcredit.harness.words import one_of, spelled

_CHOSEN_BY_OPTION = {"model", "benchmark", "suite", "method", "seed"}
_DRAWN_BY_TRAINING = {"tasks", "group", "temperature"}  # an evaluation plays each task once, and has --temperature
_PLAYED = ["engine", *(f"rollout.{name}" for name in RolloutSpec.model_fields if name not in _DRAWN_BY_TRAINING)]
_FAR = 50
_EVALUATED: Mapping[str, Any] = {"samples": 4, "luck": Luck.BY_SEED}
"""What is evaluated where nothing is said; RunSpec's own defaults are those of runs that say nothing of either."""


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

    A model from the hub is run by vLLM where a tested version is installed, if nothing else is said. On another suite
    than the preset's, episodes get that suite's limits. Evaluations have four samples a task and draws by seed, unless
    they are greedy or something else is said. Names are taken in any case and spelling.

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

    model, benchmark, method = preset_named(model).name, benchmark_called(benchmark), method_called(method)
    recipe, suite = preset_named(model).recipe(benchmark), suite and suite_called(benchmark, suite)
    content: dict[str, Any] = deepcopy(dict(recipe.settings)) if settings is None else {}
    if settings is None and suite and suite != recipe.suite:
        _make_room(content, family_of(benchmark).suites[suite])
    content["method_options"] = dict(recipe.method_options.get(method, {})) if settings is None else {}
    for path, value in (settings or {}).items():
        _put(content, path, value)
    content["evaluation"] = {**_EVALUATED, **content.get("evaluation", {})}
    if preset_named(model).source is Source.HUB and vllm_version() in TESTED:
        content.setdefault("engine", EngineName.VLLM)
    for text in overrides:
        _apply(content, text)
    _suit_method(content, model, method, overrides)
    _suit_temperature(content, overrides)
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


def _suit_method(content: dict[str, Any], model: str, method: str, overrides: Sequence[str]) -> None:
    """What follows from model and method where nothing was said.

    Models that chat read a peer's whole text. A recipe is another method's too: one that keeps no snapshot has the
    start as reference where the recipe's KL term follows its teacher, and one that gives all steps one score pays by
    episode where the recipe's steps pay for themselves.
    """
    from stepcredit.methods.registry import build, method_named

    options, fields = content["method_options"], method_named(method).Config.model_fields
    told = options.get("hindsight", "peer_traj") in ("peer_traj", "golden_rollout")
    if preset_named(model).source is not Source.EMBEDDED and told and "hindsight_text" in fields:
        options.setdefault("hindsight_text", "full")
    built = build(method, options)
    follows = built.needs.stale_refresh is not None
    _leave_out("objective.reference", Reference.TEACHER, content, overrides, has_effect=follows)
    _leave_out("objective.penalised", Penalised.STEP, content, overrides, has_effect=built.scores_steps)


def _suit_temperature(content: dict[str, Any], overrides: Sequence[str]) -> None:
    """Where nothing is drawn, one episode of each task is all there is."""
    drawn = content.get("evaluation", {}).get("temperature") != 0
    for name, value in _EVALUATED.items():
        _leave_out(f"evaluation.{name}", value, content, overrides, has_effect=drawn)


def _leave_out(path: str, value: Any, content: dict[str, Any], overrides: Sequence[str], *, has_effect: bool) -> None:
    """Drop a value of nobody's choice that means nothing here."""
    section, _, name = path.partition(".")
    asked = any(text.startswith(f"{path}=") for text in overrides)
    if not (has_effect or asked) and content.get(section, {}).get(name) == value:
        del content[section][name]


def evaluated_elsewhere(spec: RunSpec, suite: str | None, overrides: Sequence[str]) -> RunSpec:
    """The spec by which a run's policy is evaluated: on the run's suite with its limits, on another with that one's.

    Args:
        spec: the run's.
        suite: None takes the run's own.
        overrides: texts that set `rollout.field`, `env_options.field` or `engine`; others would have no effect.

    Raises:
        UserError: unknown suite or setting, or a value out of range.
        EnvError: unknown option of the benchmark.
    """
    chosen = spec.suite if suite is None else suite_called(spec.benchmark, suite)
    limits = spec.rollout if chosen == spec.suite else limits_on(family_of(spec.benchmark).suites[chosen], spec.rollout)
    content = spec.model_copy(update={"suite": chosen, "rollout": limits}).model_dump(mode="json")
    for text in overrides:
        path = text.partition("=")[0]
        if not path.startswith("env_options."):
            one_of("setting of an evaluation", path, _PLAYED)
        _apply(content, text)
    content["env_options"] = complete_options(spec.benchmark, content.get("env_options", {}))
    return _validated(content)


def with_settings(spec: RunSpec, overrides: Sequence[str]) -> RunSpec:
    """The spec with some settings changed.

    Raises:
        UserError: unknown setting, or a value out of range.
    """
    content = spec.model_dump(mode="json")
    for text in overrides:
        _apply(content, text)
    return _validated(content)


def far_off(usual: RunSpec, chosen: RunSpec) -> list[str]:
    """A sentence about each numeric setting that is 50 times its usual value or more, or as much below it."""
    before, sentences = dict(leaves(usual)), []
    for path, value in leaves(chosen):
        there = before.get(path)
        if path.endswith("seed") or not (_is_size(value) and _is_size(there)):
            continue
        times = value / there
        if max(times, 1 / times) >= _FAR:
            size = f"{times:,.0f} times the" if times > 1 else f"{1 / times:,.0f} times below the"
            sentences.append(f"{path} is {value:g}, {size} usual {there:g} of model {chosen.model}")
    return sentences


def leaves(content: BaseModel | Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every field that is no section, with its dotted path."""
    for name, value in content.items() if isinstance(content, Mapping) else content:
        if isinstance(value, BaseModel | Mapping):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _is_size(value: Any) -> TypeGuard[float]:
    """Whether it is a number that another can be a multiple of."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def known_settings() -> list[str]:
    """What `--set` takes, as dotted paths."""
    return sorted(path for path in _paths(RunSpec) if path.split(".")[0] not in _CHOSEN_BY_OPTION)


def benchmark_called(name: str) -> str:
    """The registered benchmark that is meant.

    Raises:
        UserError: none is.
    """
    return one_of("benchmark", name, benchmark_names())


def suite_called(benchmark: str, name: str) -> str:
    """The suite of the benchmark that is meant.

    Raises:
        UserError: none is.
    """
    return one_of(f"{benchmark} suite", name, family_of(benchmark).suites)


def method_called(name: str) -> str:
    """The registered method that is meant; a name that means none is returned as it is, for the registry to refuse."""
    from stepcredit.methods.registry import method_names

    return spelled(name, method_names()) or name


def limits_on(suite: Suite, limits: RolloutSpec) -> RolloutSpec:
    """Limits of a run on another suite: its turns, and as much room for tokens as these need."""
    return limits.model_copy(update=_room(suite, limits.max_context_tokens, limits.max_observation_tokens))


def _apply(content: dict[str, Any], text: str) -> None:
    path, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--set {text!r} lacks a value; write it as --set {path}=VALUE")
    if not path.startswith(("method_options.", "env_options.")):
        path = one_of("setting", path, known_settings())
    _put(content, path, _parsed(value))


def _make_room(content: dict[str, Any], suite: Suite) -> None:
    usual = RolloutSpec.model_validate(content.get("rollout", {}))
    room = _room(suite, usual.max_context_tokens, usual.max_observation_tokens)
    content["rollout"] = {**content.get("rollout", {}), **room}


def _room(suite: Suite, context: int, observation: int | None) -> dict[str, Any]:
    """An observation that is not cut needs no room of its own."""
    longest = None if observation is None else max(observation, suite.max_observation_tokens or 0)
    return {
        "max_turns": suite.max_turns,
        "max_context_tokens": max(context, suite.max_context_tokens),
        "max_observation_tokens": longest,
    }


def _put(content: dict[str, Any], path: str, value: Any) -> None:
    *sections, name = path.split(".")
    for section in sections:
        content = content.setdefault(section, {})
    content[name] = value


def _parsed(value: str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _validated(content: Mapping[str, Any]) -> RunSpec:
    try:
        return RunSpec.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "value_error":  # a sentence of our own
            raise UserError(str(first["ctx"]["error"])) from error
        path = ".".join(str(part) for part in first["loc"])
        raise UserError(f"setting {path}: {first['msg'].lower()}, but the value is {first['input']!r}") from error


def _paths(model: type[BaseModel], prefix: str = "") -> Iterable[str]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _paths(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"

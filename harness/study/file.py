"""Studies as TOML files: what they share, what they cross, and a folder for each variant."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files as resources
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stepcredit.harness.credit_study.asked import StudySpec
from stepcredit.harness.credit_study.cases import USUAL
from stepcredit.harness.errors import UserError
from stepcredit.harness.fidelity.truth import Precision
from stepcredit.harness.setup.settings import build_spec
from stepcredit.harness.spec import RunSpec
from stepcredit.methods.arms import Source
from stepcredit.methods.registry import method_names

_SHIPPED = "stepcredit.harness.study.shipped"
_UNFIT = re.compile(r"[^A-Za-z0-9._=+-]+")
_LONGEST = 60
Seed = Annotated[int, Field(strict=True, ge=0)]


class Part(BaseModel):
    """Runs of some methods, in every combination of the axes.

    Attributes:
        model: in place of the study's.
        methods: each is a run for each seed and combination.
        settings: by dotted name, over the study's.
        per_method: likewise, for one method alone.
        axes: values to be crossed, by the dotted name of a setting.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    benchmark: str = "alfworld"
    suite: str | None = None
    model: str | None = None
    methods: tuple[str, ...] = Field(min_length=1)
    settings: Mapping[str, Any] = Field(default_factory=dict)
    per_method: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    axes: Mapping[str, tuple[Any, ...]] = Field(default_factory=dict)


class CreditPart(BaseModel):
    """A credit study: methods under arms, held against the truth; see `stepcredit credit-study`.

    Attributes:
        methods: all there are, where none is named.
        arms: the usual ones, where none is named.
        tasks: held-out ones, a group of episodes each.
        precision: standard error of a step's true advantage that is aimed at.
        alternatives: fresh episodes from a state of each trajectory, whose first actions are compared; 0 for none.
        gradients: whether policy gradients are compared with that of the truth.
        settings: by dotted name, over the study's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    benchmark: str = "alfworld"
    suite: str | None = None
    model: str | None = None
    methods: tuple[str, ...] = ()
    arms: tuple[Source, ...] = USUAL
    tasks: int = Field(8, ge=1)
    precision: float = Field(0.03, ge=0.005, le=0.5)
    alternatives: int = Field(0, ge=0)
    gradients: bool = False
    settings: Mapping[str, Any] = Field(default_factory=dict)


class StudyFile(BaseModel):
    """A study.

    Attributes:
        seeds: of every run; credit studies have the first.
        settings: by dotted name, of every run.
        parts: what is trained and compared.
        credit: what is held against the truth.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    model: str = "tiny"
    seeds: tuple[Seed, ...] = Field((0, 1, 2), min_length=1)
    settings: Mapping[str, Any] = Field(default_factory=dict)
    parts: tuple[Part, ...] = ()
    credit: tuple[CreditPart, ...] = ()


@dataclass(frozen=True, slots=True)
class Variant:
    """One combination: a study of its own, in a folder of that name; its runs are methods and seeds."""

    name: str
    specs: tuple[RunSpec, ...]


def shipped() -> list[str]:
    """Names of the studies that come with the package."""
    names = [path.name for path in resources(_SHIPPED).iterdir()]
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def text_of(wanted: str) -> str:
    """A shipped study's file by name, or a user's by path.

    Raises:
        UserError: there is none.
    """
    if wanted in shipped():
        return (resources(_SHIPPED) / f"{wanted}.toml").read_text(encoding="utf-8")
    try:
        return Path(wanted).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{wanted!r} is neither a study that comes with stepcredit ({', '.join(shipped())}) nor a file that can be "
            f"read: {error}"
        ) from error


def parse(text: str, where: str) -> StudyFile:
    """The study that a file describes.

    Raises:
        UserError: it is no TOML, or says what cannot be done: where, and what.
    """
    try:
        found = StudyFile.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{where} is no TOML: {error}") from error
    except ValidationError as error:
        raise UserError(f"{where}: {_complaint(error)}; see `stepcredit study show ablations`") from error
    if not found.parts and not found.credit:
        raise UserError(f"{where} has neither [[parts]] nor [[credit]]; see `stepcredit study show ablations`")
    if not found.parts and "seeds" in found.model_fields_set and len(found.seeds) > 1:
        raise UserError(f"{where}: seeds are {list(found.seeds)}, but a study of credit has one; leave the others out")
    for number, part in enumerate(found.parts):
        _require_effect(part, f"{where}: parts.{number}")
    return found


def _complaint(error: ValidationError) -> str:
    """The first thing that is wrong: where it is, what it is, and the value seen."""
    first = error.errors()[0]
    place, shown = ".".join(map(str, first["loc"])), repr(first["input"])
    if first["type"] == "extra_forbidden":
        sections: dict[str, type[BaseModel]] = {"parts": Part, "credit": CreditPart}
        section = StudyFile if len(first["loc"]) == 1 else sections[str(first["loc"][0])]
        return f"{place} is unknown, known there are {', '.join(section.model_fields)}"
    seen = "" if first["type"] == "missing" or len(shown) > _LONGEST else f", but the value is {shown}"
    return f"{place}: {first['msg'][:1].lower()}{first['msg'][1:]}{seen}"


def _require_effect(part: Part, where: str) -> None:
    """Refuse what would make no run, and what an axis would set again.

    Raises:
        UserError: there is such a thing.
    """
    if empty := [name for name, values in part.axes.items() if not values]:
        raise UserError(f"{where}.axes.{empty[0]} has no values; give it some, or leave it out")
    if strange := [name for name in part.per_method if name not in part.methods]:
        raise UserError(f"{where}.per_method names {strange[0]!r}, which is not among its methods")
    layers = {"settings": part.settings} | {f"per_method.{name}": own for name, own in part.per_method.items()}
    for layer, own in layers.items():
        if twice := [name for name in own if name in part.axes]:
            raise UserError(f"{where}.{layer} sets {twice[0]}, which is an axis too; leave it out of one of them")


def variants(study: StudyFile) -> list[Variant]:
    """Every combination of every part, in order; parts that make the same one share its folder.

    Raises:
        UserError: a setting does not exist or does not fit, or two parts ask for one run.
        MethodError: an unknown method or option.
        EnvError: an unknown benchmark or suite.
    """
    specs: dict[str, list[RunSpec]] = {}
    for part in study.parts:
        for variant in _of_part(study, part):
            specs.setdefault(variant.name, []).extend(variant.specs)
    for name, own in specs.items():
        runs = [(spec.method, spec.seed) for spec in own]
        if twice := [run for run in runs if runs.count(run) > 1]:
            method, seed = twice[0]
            raise UserError(f"study {study.name} asks twice for {method}, seed {seed}, in {name}; leave one out")
    return [Variant(name, tuple(own)) for name, own in specs.items()]


def credit_studies(study: StudyFile) -> dict[str, StudySpec]:
    """Folder's name -> credit study.

    Raises:
        UserError: a setting does not exist or does not fit, or two parts ask for one folder.
        EnvError: an unknown benchmark or suite.
    """
    found: dict[str, StudySpec] = {}
    for part in study.credit:
        layers = [study.settings, part.settings]
        spec = build_spec(
            model=part.model or study.model,
            benchmark=part.benchmark,
            suite=part.suite,
            method="grpo",
            seed=study.seeds[0],
            overrides=list(_overrides(layers)),
        )
        name = f"credit/{spec.benchmark}-{spec.suite}-{spec.model}"
        if name in found:
            raise UserError(f"study {study.name} asks twice for {name}; leave one out")
        methods = tuple(part.methods or method_names())
        precision = Precision(part.precision)
        found[name] = StudySpec(
            spec, methods, part.arms, part.tasks, study.seeds[0], precision, part.alternatives, part.gradients
        )
    return found


def _of_part(study: StudyFile, part: Part) -> Iterator[Variant]:
    for values in product(*part.axes.values()):
        crossed = dict(zip(part.axes, values, strict=True))
        specs = [
            build_spec(
                model=part.model or study.model,
                benchmark=part.benchmark,
                suite=part.suite,
                method=method,
                seed=seed,
                overrides=list(_overrides([study.settings, part.settings, part.per_method.get(method, {}), crossed])),
            )
            for seed in study.seeds
            for method in part.methods
        ]
        yield Variant(_folder(specs[0], crossed), tuple(specs))


def _overrides(layers: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """As `--set` has them; what comes later holds."""
    settings = {name: value for layer in layers for name, value in layer.items()}
    return (f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in settings.items())


def _folder(spec: RunSpec, crossed: Mapping[str, Any]) -> str:
    """Such as alfworld-mini/hindsight=foreign."""
    said = "+".join(f"{name.rpartition('.')[2]}={_UNFIT.sub('-', str(value))}" for name, value in crossed.items())
    return f"{spec.benchmark}-{spec.suite}" + (f"/{said}" if said else "")

"""A published recipe: the settings of a run, each with the place it was read from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from stepcredit.harness.errors import UserError
from stepcredit.harness.recipes.places import OURS
from stepcredit.harness.setup.settings import benchmark_called, build_spec, method_called
from stepcredit.harness.spec import RunSpec

_CHOSEN = ("model", "benchmark", "suite", "method")


@dataclass(frozen=True, slots=True)
class Sourced:
    """A value, and the short name of the place it was read from, or `(ours)`; see `places`."""

    value: Any
    source: str


@dataclass(frozen=True, slots=True)
class Deviation:
    """Something published that a run spec has no place for.

    Attributes:
        published: what the authors did.
        here: what runs of this project do instead.
        source: the place it was read from.
    """

    published: str
    here: str
    source: str


_Item = TypeVar("_Item", Sourced, Deviation)


@dataclass(frozen=True)
class PaperRecipe:
    """How a paper trained its method on a benchmark.

    Attributes:
        name: method and benchmark.
        paper: name and arXiv number.
        fields: dotted paths of RunSpec, `model`, `benchmark`, `suite` and `method` among them.
        deviations: what the spec cannot say, by topic.
    """

    name: str
    paper: str
    fields: Mapping[str, Sourced]
    deviations: Mapping[str, Deviation]

    def value(self, path: str) -> Any:
        """What the recipe sets a field to."""
        return self.fields[path].value

    def spec(
        self,
        *,
        seed: int = 0,
        model: str | None = None,
        suite: str | None = None,
        method: str | None = None,
        overrides: Sequence[str] = (),
    ) -> RunSpec:
        """The run that the recipe describes; whatever is given takes the recipe's place.

        Another method than the recipe's gets its own default options, so that methods can be compared under one recipe.

        Args:
            seed: run seed.
            model: preset of the policy.
            suite: variant of the benchmark.
            method: registered method.
            overrides: `section.field=value` texts.

        Raises:
            UserError: unknown preset or setting, or a value out of range.
            MethodError: unknown method or option of it.
        """
        chosen = method_called(method or self.value("method"))
        own = chosen == self.value("method")
        settings = {
            path: field.value
            for path, field in self.fields.items()
            if path not in _CHOSEN and (own or not path.startswith("method_options."))
        }
        return build_spec(
            model=model or self.value("model"),
            benchmark=self.value("benchmark"),
            suite=suite or self.value("suite"),
            method=chosen,
            seed=seed,
            overrides=overrides,
            settings=settings,
        )

    def require_benchmark(self, benchmark: str | None) -> None:
        """Refuse another benchmark than the recipe's; None asks for none.

        Raises:
            UserError: names the recipe's.
        """
        own = self.value("benchmark")
        if benchmark is not None and benchmark_called(benchmark) != own:
            raise UserError(
                f"recipe {self.name!r} is for benchmark {own!r}, but {benchmark!r} was asked for; "
                "leave --benchmark out or choose another recipe"
            )


def read_from(source: str, values: Mapping[str, Any]) -> dict[str, Sourced]:
    """Fields that were read in one place."""
    return {path: Sourced(value, source) for path, value in values.items()}


def not_published(items: Mapping[str, _Item]) -> dict[str, _Item]:
    """The same for a paper that is silent about them: their sources say so, except for our own choices."""
    return {
        name: item if item.source == OURS else replace(item, source=f"not published; as in {item.source}")
        for name, item in items.items()
    }

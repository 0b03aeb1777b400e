"""Runs by a published recipe."""

from __future__ import annotations

from collections.abc import Sequence

from stepcredit.harness.errors import UserError
from stepcredit.harness.recipes.recipe import PaperRecipe
from stepcredit.harness.setup.settings import benchmark_called, build_spec, method_called
from stepcredit.harness.spec import RunSpec


def published_spec(
    recipe: PaperRecipe,
    *,
    seed: int = 0,
    model: str | None = None,
    suite: str | None = None,
    method: str | None = None,
    overrides: Sequence[str] = (),
) -> RunSpec:
    """The run that a recipe describes; whatever is given takes the recipe's place.

    Another method than the recipe's gets its own default options, so that methods can be compared under one recipe.

    Args:
        recipe: the published one.
        seed: run seed.
        model: preset of the policy.
        suite: variant of the benchmark.
        method: registered method.
        overrides: `section.field=value` texts.

    Raises:
        UserError: unknown preset or setting, or a value out of range.
        MethodError: unknown method or option of it.
    """
    chosen = method_called(method or recipe.value("method"))
    options = recipe.method_options if chosen == recipe.value("method") else {}
    return build_spec(
        model=model or recipe.value("model"),
        benchmark=recipe.value("benchmark"),
        suite=suite or recipe.value("suite"),
        method=chosen,
        seed=seed,
        overrides=overrides,
        settings=recipe.settings | {f"method_options.{name}": value for name, value in options.items()},
    )


def require_benchmark(recipe: PaperRecipe, benchmark: str | None) -> None:
    """Refuse another benchmark than the recipe's; None asks for none.

    Raises:
        UserError: names the recipe's.
    """
    own = recipe.value("benchmark")
    if benchmark is not None and benchmark_called(benchmark) != own:
        raise UserError(
            f"recipe {recipe.name!r} is for benchmark {own!r}, but {benchmark!r} was asked for; "
            "leave --benchmark out or choose another recipe"
        )

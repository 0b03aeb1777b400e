"""Published recipes by name: how papers trained their methods, field by field, with the source of each."""

from __future__ import annotations

from collections.abc import Mapping

from stepcredit.harness.recipes import carried, gigpo, sdar, stepopsd
from stepcredit.harness.recipes.recipe import PaperRecipe
from stepcredit.harness.words import one_of

_MODULES = (gigpo, sdar, stepopsd, carried)

RECIPES: Mapping[str, PaperRecipe] = {recipe.name: recipe for module in _MODULES for recipe in module.ALL}


def recipe_named(name: str) -> PaperRecipe:
    """Look up a recipe.

    Raises:
        UserError: no recipe has that name; the message suggests the nearest.
    """
    return RECIPES[one_of("recipe", name, RECIPES)]

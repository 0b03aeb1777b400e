"""The benchmark's options, part of a run's spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stepcredit.envs.contract import EnvError
from stepcredit.envs.naming import unknown
from stepcredit.envs.searchqa.env import Rules
from stepcredit.envs.searchqa.retrieval.opening import RetrieverSpec


class SearchOptions(BaseModel):
    """What can be chosen; the defaults are Search-R1's (arXiv 2503.09516), but for the retriever."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    topk: int = Field(3, ge=1, le=100)
    """Passages per query."""
    searches: int = Field(4, ge=0)
    """Turns in which the agent may search; one more turn is for the answer alone."""
    format_reward: float = Field(0.0, ge=0.0, le=1.0)
    """Added to the reward (1 for an exact match, else 0) of an answered episode without an invalid turn."""
    retriever: RetrieverSpec = RetrieverSpec()
    """Where passages come from."""

    @classmethod
    def parse(cls, options: Mapping[str, Any]) -> SearchOptions:
        """The options, with defaults for whatever is left open.

        Raises:
            EnvError: unknown option, or a value out of range.
        """
        try:
            return cls.model_validate(dict(options))
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            if first["type"] == "extra_forbidden":
                raise unknown("searchqa option", name, _names(cls)) from error
            if first["type"] == "value_error":  # a sentence of our own
                raise EnvError(f"env_options.{name}: {first['ctx']['error']}") from error
            raise EnvError(
                f"env_options.{name}: {first['msg'].lower()}, but the value is {first['input']!r}"
            ) from error

    @property
    def rules(self) -> Rules:
        """What the episodes need to know of them."""
        return Rules(self.topk, self.searches, self.format_reward)


def _names(model: type[BaseModel], prefix: str = "") -> list[str]:
    names = []
    for name, field in model.model_fields.items():
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            names += _names(nested, f"{prefix}{name}.")
        else:
            names.append(f"{prefix}{name}")
    return names

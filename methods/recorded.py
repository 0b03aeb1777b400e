"""Options that a run's identity is made of."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer


class Recorded(BaseModel):
    """Frozen options whose canonical dump is hashed: unknown fields refused, field docstrings kept.

    Fields in `LATER` came after the first runs were recorded. They are left out of the dump while they have their
    defaults, so that the hashes of those runs stand.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
    LATER: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _without_unset(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = handler(self)
        return {name: value for name, value in content.items() if name not in self.LATER or not self._unset(name)}

    def _unset(self, name: str) -> bool:
        default = type(self).model_fields[name].get_default(call_default_factory=True)
        return bool(getattr(self, name) == default)

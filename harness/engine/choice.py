"""Which engine runs a policy."""

from __future__ import annotations

from stepcredit.harness.engine.cached import TransformersEngine
from stepcredit.harness.engine.contract import Engine
from stepcredit.harness.model.policy import Policy


def engine_of(policy: Policy) -> Engine:
    """The engine that draws a policy's episodes; it follows the policy's weights as they change.

    Raises:
        UserError: no engine runs a model of this kind.
    """
    return TransformersEngine(policy.model)

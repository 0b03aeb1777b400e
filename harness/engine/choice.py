"""Which engine runs a policy."""

from __future__ import annotations

from stepcredit.harness.engine.cached import TransformersEngine
from stepcredit.harness.engine.contract import Engine
from stepcredit.harness.engine.vllm import VllmEngine, require_vllm
from stepcredit.harness.errors import UserError
from stepcredit.harness.model.policy import Policy
from stepcredit.harness.spec import EngineName


def engine_of(policy: Policy, name: EngineName = EngineName.TRANSFORMERS) -> Engine:
    """The engine that draws a policy's episodes; it follows the policy's weights as they change.

    Raises:
        UserError: the engine does not run a model of this kind, or is not installed.
    """
    if name is EngineName.VLLM:
        return VllmEngine(policy.model, len(policy.tokenizer))
    return TransformersEngine(policy.model)


def require_installed(name: EngineName) -> None:
    """See that an engine is there before anything is loaded for it.

    Raises:
        UserError: it is not, or in an untested version.
    """
    if name is EngineName.VLLM:
        require_vllm()


def require_alone(name: EngineName, processes: int) -> None:
    """Refuse to share a run's updates where its engine starts processes of its own.

    Raises:
        UserError: it does.
    """
    if name is EngineName.VLLM and processes > 1:
        raise UserError(
            f"--processes {processes} does not go with engine=vllm, which joins processes of its own; use "
            "--set engine=transformers, or --processes 1"
        )

"""Who plays: a policy, the engine that runs it, and the benchmark whose environments it plays in."""

from __future__ import annotations

from dataclasses import dataclass

from stepcredit.envs.contract import Benchmark
from stepcredit.harness.engine.choice import engine_of
from stepcredit.harness.engine.contract import Engine
from stepcredit.harness.model.policy import Policy
from stepcredit.harness.spec import EngineName


@dataclass(frozen=True, slots=True)
class Player:
    """The three travel together; the policy's weights may change between episodes."""

    policy: Policy
    engine: Engine
    benchmark: Benchmark

    @classmethod
    def of(cls, policy: Policy, benchmark: Benchmark, engine: EngineName = EngineName.TRANSFORMERS) -> Player:
        """With an engine of that name.

        Raises:
            UserError: it does not run a model of this kind, or is not installed.
        """
        return cls(policy, engine_of(policy, engine), benchmark)

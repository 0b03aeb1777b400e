"""Who plays: a policy, the engine that runs it, and the benchmark whose environments it plays in."""

from __future__ import annotations

from dataclasses import dataclass

from stepcredit.envs.contract import Benchmark
from stepcredit.harness.engine.choice import engine_of
from stepcredit.harness.engine.contract import Engine
from stepcredit.harness.model.policy import Policy


@dataclass(frozen=True, slots=True)
class Player:
    """The three travel together; the policy's weights may change between episodes."""

    policy: Policy
    engine: Engine
    benchmark: Benchmark

    @classmethod
    def of(cls, policy: Policy, benchmark: Benchmark) -> Player:
        """With the policy's own engine.

        Raises:
            UserError: no engine runs a model of this kind.
        """
        return cls(policy, engine_of(policy), benchmark)

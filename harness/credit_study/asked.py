"""What a credit study is asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from stepcredit.harness.fidelity.truth import Precision
from stepcredit.harness.seeds import seed_for
from stepcredit.harness.spec import RunSpec

Tell = Callable[[int, int], None]
"""Told how many of how many tasks have their truth."""


@dataclass(frozen=True, slots=True)
class StudySpec:
    """What is studied.

    Attributes:
        run: model, benchmark, episodes; its method has no part.
        tasks: of the held-out panel, in the seeded order of the spec; groups without a winner and a loser teach nobody.
        seed: of the episodes and continuations.
        alternatives: fresh episodes from a state of each trajectory, whose first actions are compared; 0 for none.
        gradients: whether cases' policy gradients are compared with that of the truth; for small policies.
    """

    run: RunSpec
    methods: tuple[str, ...]
    arms: tuple[str, ...]
    tasks: int = 8
    seed: int = 0
    precision: Precision = field(default_factory=Precision)
    alternatives: int = 0
    gradients: bool = False

    @property
    def sha256(self) -> str:
        """Identity of the study without its cases: that of its episodes and their truth."""
        content = {"run": self.run.model_dump(mode="json"), "tasks": self.tasks, "seed": self.seed}
        return f"{seed_for(json.dumps({**content, **asdict(self.precision)}, sort_keys=True)):016x}"

    def described(self) -> dict[str, Any]:
        """As the study's record has it."""
        return {
            "run": self.run.model_dump(mode="json"),
            "methods": list(self.methods),
            "arms": list(self.arms),
            "tasks": self.tasks,
            "seed": self.seed,
            "precision": asdict(self.precision),
            "alternatives": self.alternatives,
            "gradients": self.gradients,
        }

"""What an update works with: the policy, what is kept beside it, the optimiser, the player and the rescorer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW

from stepcredit.harness.engine.recompute import HEAD_TOKENS, require_recomputable
from stepcredit.harness.engine.rescore import Drawn, ModelRescorer
from stepcredit.harness.episodes.player import Player
from stepcredit.harness.errors import UserError
from stepcredit.harness.model.adapters import add_adapters, load_trained, trained_weights
from stepcredit.harness.model.policy import Policy
from stepcredit.harness.record.checkpoint import SavedWeights
from stepcredit.harness.record.rows import UpdateStats
from stepcredit.harness.run.kept import Kept
from stepcredit.harness.run.masters import MasterAdamW, RestingMasterAdamW
from stepcredit.harness.run.objective import update_policy
from stepcredit.harness.run.resting import RestingAdamW
from stepcredit.harness.run.schedule import learning_rate
from stepcredit.harness.seeds import seed_for
from stepcredit.harness.setup.parts import Parts
from stepcredit.harness.spec import Importance, OptimSpec, RunSpec
from stepcredit.methods.contract import Credit, Group


@dataclass(frozen=True, slots=True)
class Learner:
    """The objects of one run whose state training changes.

    Attributes:
        policy: the live policy.
        kept: the weights beside it.
    """

    policy: Policy
    kept: Kept
    optimizer: AdamW
    player: Player
    rescorer: ModelRescorer

    @classmethod
    def of(cls, spec: RunSpec, parts: Parts) -> Learner:
        """The learner before its first update; the policy gets the adapters that the spec asks for.

        Raises:
            UserError: no engine runs the model, an option has no effect on it, or peft is missing.
        """
        policy = parts.policy
        if spec.optim.rank is not None:
            add_adapters(policy.model, spec.optim.rank, seed_for("adapters", spec.seed))
        player = Player.of(policy, parts.benchmark, spec.engine)
        if player.engine.exact and spec.objective.importance is not Importance.NONE:
            raise UserError(
                f"objective.importance is {spec.objective.importance}, but the engine of model {spec.model!r} draws "
                "with the trainer's own probabilities: nothing is to be corrected; leave it out"
            )
        if spec.optim.recompute:
            require_recomputable(policy.model)
        kept = Kept.of(spec, parts)
        return cls(
            policy=policy,
            kept=kept,
            optimizer=optimizer_of(policy.model, spec.optim),
            player=player,
            rescorer=ModelRescorer(
                policy,
                kept.teachers,
                spec.optim.token_budget,
                spec.rollout.temperature,
                drawn=Drawn.now_by(player.engine),  # an update's credit comes before its step
                head_tokens=HEAD_TOKENS if spec.optim.recompute else None,
            ),
        )

    def update(
        self, groups: Sequence[Group], credits: Sequence[Sequence[Credit]], spec: RunSpec, number: int
    ) -> UpdateStats:
        """Train on what was drawn for the update of that number; see `update_policy`."""
        for settings in self.optimizer.param_groups:
            settings["lr"] = learning_rate(spec, number)
        drawn = Drawn.now_by(self.player.engine)
        reference = self.kept.reference
        with self.kept.comparing():
            stats = update_policy(
                self.policy, reference, self.optimizer, groups, credits, spec, update=number, drawn=drawn
            )
        self.kept.follow()
        return stats

    def weights(self) -> SavedWeights:
        """The weights as they are now, without a copy."""
        return SavedWeights(trained_weights(self.policy.model), self.optimizer.state_dict(), self.kept.weights())

    def load(self, weights: SavedWeights) -> None:
        """Take over saved weights; those of a run that has ended are the model's alone."""
        load_trained(self.policy.model, weights.model)
        if weights.optimizer is not None:
            self.optimizer.load_state_dict(dict(weights.optimizer))
        self.kept.load(weights.kept)


def optimizer_of(model: nn.Module, settings: OptimSpec) -> AdamW:
    """AdamW on a float32 model's own weights that need a gradient, on float32 masters of a bfloat16 one's.

    Raises:
        UserError: the weights are of another type.
    """
    chosen: dict[str, Any] = {
        "lr": settings.lr,
        "betas": (settings.beta1, settings.beta2),
        "weight_decay": settings.weight_decay,
        "foreach": False,  # one tensor at a time: the order of operations, and so the bits, are the same everywhere
    }
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    kinds = {weight.dtype for weight in trained}
    if kinds == {torch.float32}:
        return (RestingAdamW if settings.offload else AdamW)(trained, **chosen)
    if kinds == {torch.bfloat16}:
        return (RestingMasterAdamW if settings.offload else MasterAdamW)(model, **chosen)
    raise UserError(
        f"the model's weights are {', '.join(sorted(str(kind) for kind in kinds))}; load it in float32 or bfloat16"
    )

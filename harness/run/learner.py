"""What an update works with: the policy, what is kept beside it, the optimiser, the player and the rescorer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transformers import PreTrainedModel

from stepcredit.harness.engine.recompute import HEAD_TOKENS, require_recomputable
from stepcredit.harness.engine.rescore import Drawn, ModelRescorer
from stepcredit.harness.episodes.player import Player
from stepcredit.harness.errors import UserError
from stepcredit.harness.model.adapters import load_trained, trained_weights
from stepcredit.harness.model.policy import Policy
from stepcredit.harness.record.checkpoint import SavedWeights
from stepcredit.harness.record.rows import UpdateStats
from stepcredit.harness.run.kept import Kept
from stepcredit.harness.run.objective import update_with
from stepcredit.harness.run.optimizer import optimizer_of, with_adapters
from stepcredit.harness.run.schedule import learning_rate
from stepcredit.harness.run.trainer import LocalTrainer, Trainer
from stepcredit.harness.setup.parts import Parts
from stepcredit.harness.spec import Importance, RunSpec
from stepcredit.methods.contract import Credit, Group

if TYPE_CHECKING:
    from stepcredit.harness.run.crew import Crew


@dataclass(frozen=True, slots=True)
class Learner:
    """The objects of one run whose state training changes.

    Attributes:
        policy: the live policy.
        kept: the weights beside it.
        trainer: moves it.
    """

    policy: Policy
    kept: Kept
    trainer: Trainer
    player: Player
    rescorer: ModelRescorer

    @classmethod
    def of(cls, spec: RunSpec, parts: Parts, crew: Crew | None = None) -> Learner:
        """The learner before its first update; the policy gets the adapters that the spec asks for.

        A crew's processes share the updates; without one this process makes them.

        Raises:
            UserError: no engine runs the model, an option has no effect on it, or peft is missing.
        """
        policy = parts.policy
        with_adapters(policy.model, spec)
        player = Player.of(policy, parts.benchmark, spec.engine)
        if player.engine.exact and spec.objective.importance is not Importance.NONE:
            raise UserError(
                f"objective.importance is {spec.objective.importance}, but the engine of model {spec.model!r} draws "
                "with the trainer's own probabilities: nothing is to be corrected; leave it out"
            )
        if spec.optim.recompute:
            require_recomputable(policy.model)
        kept, drawn = Kept.of(spec, parts), Drawn.now_by(player.engine)  # an update's credit comes before its step
        return cls(
            policy=policy,
            kept=kept,
            trainer=_trainer(spec, policy.model, kept, drawn, crew),
            player=player,
            rescorer=ModelRescorer(
                policy,
                kept.teachers,
                spec.optim.token_budget,
                spec.rollout.temperature,
                drawn=drawn,
                head_tokens=HEAD_TOKENS if spec.optim.recompute else None,
            ),
        )

    def update(
        self, groups: Sequence[Group], credits: Sequence[Sequence[Credit]], spec: RunSpec, number: int
    ) -> UpdateStats:
        """Train on what was drawn for the update of that number; see `update_policy`."""
        self.trainer.set_rate(learning_rate(spec, number))
        drawn = Drawn.now_by(self.player.engine)
        with self.kept.comparing():
            stats = update_with(self.trainer, self.policy, groups, credits, spec, update=number, drawn=drawn)
        self.kept.follow()
        return stats

    def weights(self) -> SavedWeights:
        """The weights as they are now, without a copy."""
        return SavedWeights(trained_weights(self.policy.model), self.trainer.optimizer_state(), self.kept.weights())

    def load(self, weights: SavedWeights) -> None:
        """Take over saved weights; those of a run that has ended are the model's alone."""
        load_trained(self.policy.model, weights.model)
        self.trainer.load(weights.optimizer)
        self.kept.load(weights.kept)


def _trainer(spec: RunSpec, model: PreTrainedModel, kept: Kept, drawn: Drawn, crew: Crew | None) -> Trainer:
    if crew is None:
        return LocalTrainer(model, kept.reference, optimizer_of(model, spec.optim), spec, drawn)
    return crew.trainer(model, kept.reference, drawn)

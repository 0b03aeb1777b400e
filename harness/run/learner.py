"""What an update works with: live, stale and reference weights, the optimiser, the player and the rescorer."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

from torch.optim import AdamW
from transformers import PreTrainedModel

from stepcredit.harness.engine.rescore import Drawn, ModelRescorer
from stepcredit.harness.episodes.player import Player
from stepcredit.harness.model.policy import Policy
from stepcredit.harness.record.checkpoint import SavedWeights
from stepcredit.harness.setup.parts import Parts
from stepcredit.harness.spec import RunSpec


@dataclass(frozen=True, slots=True)
class Learner:
    """The objects of one run whose state training changes.

    Each of `stale`, `reference` and `teacher` is one more copy of weights in memory, parameters x bytes of their type:
    3 MB for `tiny`, 6 GB for `qwen2.5-3b` in bfloat16. `extra_bytes` is their sum.

    Attributes:
        policy: the live policy.
        stale: an earlier copy of it, for methods whose teacher lags; None for the others.
        stale_refresh: updates between its refreshes; None with `stale`.
        reference: the policy the run started from; None where the objective has no KL term.
        teacher: another policy, frozen; None for methods without one.
    """

    policy: Policy
    stale: PreTrainedModel | None
    stale_refresh: int | None
    reference: PreTrainedModel | None
    teacher: PreTrainedModel | None
    optimizer: AdamW
    player: Player
    rescorer: ModelRescorer

    @classmethod
    def of(cls, spec: RunSpec, parts: Parts) -> Learner:
        """The learner before its first update."""
        policy, refresh = parts.policy, parts.method.needs.stale_refresh
        player = Player.of(policy, parts.benchmark)
        stale = None if refresh is None else _frozen_copy(policy.model)
        teacher = None if parts.teacher is None else parts.teacher.model
        settings = spec.optim
        optimizer = AdamW(
            policy.model.parameters(),
            lr=settings.lr,
            betas=(settings.beta1, settings.beta2),
            weight_decay=settings.weight_decay,
            foreach=False,  # one tensor at a time: the order of operations, and so the bits, are the same everywhere
        )
        return cls(
            policy=policy,
            stale=stale,
            stale_refresh=refresh,
            reference=_frozen_copy(policy.model) if spec.objective.kl > 0 else None,
            teacher=teacher,
            optimizer=optimizer,
            player=player,
            rescorer=ModelRescorer(
                policy,
                stale,
                spec.optim.token_budget,
                spec.rollout.temperature,
                teacher,
                drawn=Drawn.now_by(player.engine),  # an update's credit comes before its step
            ),
        )

    @property
    def extra_bytes(self) -> int:
        """Memory of the weights that are kept beside the live policy's."""
        kept = [model for model in (self.stale, self.reference, self.teacher) if model is not None]
        return sum(weight.nbytes for model in kept for weight in model.parameters())

    def refresh_stale(self, update: int) -> None:
        """Copy the live weights into the stale policy, if it is time."""
        if self.stale is not None and self.stale_refresh is not None and update % self.stale_refresh == 0:
            self.stale.load_state_dict(self.policy.model.state_dict())

    def weights(self) -> SavedWeights:
        """The weights as they are now, without a copy."""
        return SavedWeights(
            model=self.policy.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            stale=None if self.stale is None else self.stale.state_dict(),
        )

    def load(self, weights: SavedWeights) -> None:
        """Take over saved weights."""
        self.policy.model.load_state_dict(weights.model)
        self.optimizer.load_state_dict(dict(weights.optimizer))
        if self.stale is not None and weights.stale is not None:
            self.stale.load_state_dict(weights.stale)


def _frozen_copy(model: PreTrainedModel) -> PreTrainedModel:
    copy: PreTrainedModel = deepcopy(model)
    copy.eval()
    copy.requires_grad_(False)
    return copy

"""What an update works with: live, stale and reference weights, the optimiser, the player and the rescorer."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW
from transformers import PreTrainedModel

from stepcredit.harness.engine.recompute import HEAD_TOKENS, require_recomputable
from stepcredit.harness.engine.rescore import Drawn, ModelRescorer
from stepcredit.harness.episodes.player import Player
from stepcredit.harness.errors import UserError
from stepcredit.harness.model.adapters import adapters_of, add_adapters, load_trained, trained_weights
from stepcredit.harness.model.frozen import Frozen, FrozenAdapters, FrozenCopy
from stepcredit.harness.model.policy import Policy
from stepcredit.harness.record.checkpoint import SavedWeights
from stepcredit.harness.record.rows import UpdateStats
from stepcredit.harness.run.masters import MasterAdamW, RestingMasterAdamW
from stepcredit.harness.run.objective import update_policy
from stepcredit.harness.run.resting import HOST, RestingAdamW, visiting
from stepcredit.harness.run.schedule import learning_rate
from stepcredit.harness.seeds import seed_for
from stepcredit.harness.setup.parts import Parts
from stepcredit.harness.spec import Importance, OptimSpec, RunSpec
from stepcredit.methods.contract import Credit, Group


@dataclass(frozen=True, slots=True)
class Learner:
    """The objects of one run whose state training changes.

    Each of `stale`, `reference` and `teacher` is one more copy of weights in memory, parameters x bytes of their type:
    3 MB for `tiny`, 6 GB for `qwen2.5-3b` in bfloat16. `extra_bytes` is their sum. They rest in host memory: teachers
    visit the device while credit is given, the reference during the update. Where adapters are all that is trained,
    `stale` and `reference` are adapters too, and the rest is the live policy's.

    Attributes:
        policy: the live policy.
        stale: an earlier copy of it, for methods whose teacher lags; None for the others.
        stale_refresh: updates between its refreshes; None with `stale`.
        reference: the policy the run started from; None where the objective has no KL term.
        teacher: another policy, frozen; None for methods without one.
    """

    policy: Policy
    stale: Frozen | None
    stale_refresh: int | None
    reference: Frozen | None
    teacher: Frozen | None
    optimizer: AdamW
    player: Player
    rescorer: ModelRescorer

    @classmethod
    def of(cls, spec: RunSpec, parts: Parts) -> Learner:
        """The learner before its first update; the policy gets the adapters that the spec asks for.

        Raises:
            UserError: no engine runs the model, an option has no effect on it, or peft is missing.
        """
        policy, refresh = parts.policy, parts.method.needs.stale_refresh
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
        stale = None if refresh is None else _as_it_is(policy.model)
        teacher = None if parts.teacher is None else FrozenCopy(parts.teacher.model)
        return cls(
            policy=policy,
            stale=stale,
            stale_refresh=refresh,
            reference=_as_it_is(policy.model) if spec.objective.kl > 0 else None,
            teacher=teacher,
            optimizer=optimizer_of(policy.model, spec.optim),
            player=player,
            rescorer=ModelRescorer(
                policy,
                stale,
                spec.optim.token_budget,
                spec.rollout.temperature,
                teacher,
                drawn=Drawn.now_by(player.engine),  # an update's credit comes before its step
                head_tokens=HEAD_TOKENS if spec.optim.recompute else None,
            ),
        )

    @property
    def extra_bytes(self) -> int:
        """Memory of the weights that are kept beside the live policy's."""
        return sum(kept.nbytes for kept in (self.stale, self.reference, self.teacher) if kept is not None)

    def refresh_stale(self, update: int) -> None:
        """Copy the live weights into the stale policy, if it is time."""
        if self.stale is not None and self.stale_refresh is not None and update % self.stale_refresh == 0:
            self.stale.load(trained_weights(self.policy.model))

    def update(
        self, groups: Sequence[Group], credits: Sequence[Sequence[Credit]], spec: RunSpec, number: int
    ) -> UpdateStats:
        """Train on what was drawn for the update of that number; see `update_policy`."""
        for settings in self.optimizer.param_groups:
            settings["lr"] = learning_rate(spec, number)
        drawn = Drawn.now_by(self.player.engine)
        with self._visited_by(self.reference):
            return update_policy(
                self.policy, self.reference, self.optimizer, groups, credits, spec, update=number, drawn=drawn
            )

    def teaching(self) -> AbstractContextManager[None]:
        """Meanwhile the rescorer may be asked."""
        return self._visited_by(self.stale, self.teacher)

    def _visited_by(self, *kept: Frozen | None) -> AbstractContextManager[None]:
        return visiting(self.policy.model.device, *(one.resting for one in kept if one is not None))

    def weights(self) -> SavedWeights:
        """The weights as they are now, without a copy."""
        return SavedWeights(
            model=trained_weights(self.policy.model),
            optimizer=self.optimizer.state_dict(),
            stale=None if self.stale is None else self.stale.weights(),
        )

    def load(self, weights: SavedWeights) -> None:
        """Take over saved weights; those of a run that has ended are the model's alone."""
        load_trained(self.policy.model, weights.model)
        if weights.optimizer is not None:
            self.optimizer.load_state_dict(dict(weights.optimizer))
        if self.stale is not None and weights.stale is not None:
            self.stale.load(weights.stale)


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


def _as_it_is(model: PreTrainedModel) -> Frozen:
    """The policy's weights now, whatever becomes of them."""
    if adapters_of(model):
        return FrozenAdapters(model)
    copy: PreTrainedModel = deepcopy(model)
    return FrozenCopy(copy.to(HOST))  # type: ignore[arg-type]

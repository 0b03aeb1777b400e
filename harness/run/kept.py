"""The weights that a run keeps beside the live ones: earlier states of the policy, its average, another policy."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import dataclass

from torch import Tensor
from transformers import PreTrainedModel

from stepcredit.harness.model.adapters import adapters_of, trained_weights
from stepcredit.harness.model.frozen import Average, Frozen, FrozenAdapters, FrozenCopy
from stepcredit.harness.run.resting import HOST, visiting
from stepcredit.harness.setup.parts import Parts
from stepcredit.harness.spec import Reference, RunSpec
from stepcredit.methods.contract import Weights


@dataclass(frozen=True)
class Kept:
    """Each is one more copy of weights in memory: 3 MB for `tiny`, 6 GB for `qwen2.5-3b` in bfloat16.

    They rest in host memory. Where adapters are all that is trained, earlier states are adapters too, and the rest is
    the live policy's.

    Attributes:
        live: the policy's model.
        teachers: what scores for the method.
        reference: what the KL term compares with; None without that term. It may be one of the teachers.
        stale_refresh: updates between refreshes of the snapshot; None without one.
    """

    live: PreTrainedModel
    teachers: Mapping[Weights, Frozen]
    reference: Frozen | None
    stale_refresh: int | None

    @classmethod
    def of(cls, spec: RunSpec, parts: Parts) -> Kept:
        """What the run starts with."""
        live, needs = parts.policy.model, parts.method.needs
        to_start = spec.objective.kl > 0 and spec.objective.reference is Reference.INITIAL
        initial = _as_it_is(live) if needs.initial or to_start else None
        teachers: dict[Weights, Frozen] = {}
        if needs.initial and initial is not None:
            teachers[Weights.INITIAL] = initial
        if needs.stale_refresh is not None:
            teachers[Weights.STALE] = _as_it_is(live)
        if needs.ema is not None:
            teachers[Weights.EMA] = Average(_as_it_is(live), needs.ema)
        if parts.teacher is not None:
            teachers[Weights.CHECKPOINT] = FrozenCopy(parts.teacher.model)
        reference = initial if to_start else teachers.get(Weights.STALE) if spec.objective.kl > 0 else None
        return cls(live, teachers, reference, needs.stale_refresh)

    @property
    def nbytes(self) -> int:
        """Memory of all of them."""
        copies = {id(one): one.nbytes for one in (*self.teachers.values(), self.reference) if one is not None}
        return sum(copies.values())

    def refresh(self, update: int) -> None:
        """Before an update's credit: take the snapshot, if it is time."""
        if self.stale_refresh is not None and update % self.stale_refresh == 0:
            self.teachers[Weights.STALE].load(trained_weights(self.live))

    def follow(self) -> None:
        """After an update: move the average."""
        average = self.teachers.get(Weights.EMA)
        if isinstance(average, Average):
            average.follow(trained_weights(self.live))

    def teaching(self) -> AbstractContextManager[None]:
        """Meanwhile the teachers are where the policy is."""
        return visiting(self.live.device, *(teacher.resting for teacher in self.teachers.values()))

    def comparing(self) -> AbstractContextManager[None]:
        """Meanwhile the reference is where the policy is."""
        return visiting(self.live.device, None if self.reference is None else self.reference.resting)

    def weights(self) -> dict[str, Mapping[str, Tensor]]:
        """Of those that change, by name, without a copy."""
        return {str(name): self.teachers[name].weights() for name in _CHANGING if name in self.teachers}

    def load(self, weights: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take over saved ones."""
        for name in _CHANGING:
            if name in self.teachers and name in weights:
                self.teachers[name].load(weights[name])


_CHANGING = (Weights.STALE, Weights.EMA)


def _as_it_is(model: PreTrainedModel) -> Frozen:
    """The policy's weights now, whatever becomes of them."""
    if adapters_of(model):
        return FrozenAdapters(model)
    copy: PreTrainedModel = deepcopy(model)
    return FrozenCopy(copy.to(HOST))  # type: ignore[arg-type]

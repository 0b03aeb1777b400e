"""Weights that are asked beside the live ones and never trained: an earlier state of the policy, or another policy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

from torch import Tensor
from transformers import PreTrainedModel

from stepcredit.harness.model.adapters import adapters_of


class Frozen(Protocol):
    """Weights that a pass can be made with."""

    @property
    def resting(self) -> PreTrainedModel | None:
        """The model that takes memory for them and may rest elsewhere between passes; None if they have none."""
        ...

    @property
    def nbytes(self) -> int:
        """Memory that they take beside the live policy's."""
        ...

    def active(self) -> AbstractContextManager[PreTrainedModel]:
        """A model that computes with them for the time of the block."""
        ...

    def weights(self) -> Mapping[str, Tensor]:
        """What they are, without a copy."""
        ...

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Become those weights, of `weights` or of the live policy's `trained_weights`."""
        ...


class FrozenCopy:
    """A model of their own, frozen as it is taken."""

    def __init__(self, model: PreTrainedModel) -> None:
        model.eval()
        model.requires_grad_(False)
        self._model = model

    @property
    def resting(self) -> PreTrainedModel:
        """The model itself."""
        return self._model

    @property
    def nbytes(self) -> int:
        """Of all weights."""
        return sum(weight.nbytes for weight in self._model.parameters())

    def active(self) -> AbstractContextManager[PreTrainedModel]:
        """The model, which always computes with them."""
        return nullcontext(self._model)

    def weights(self) -> Mapping[str, Tensor]:
        """All weights."""
        weights: dict[str, Tensor] = self._model.state_dict()
        return weights

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take over all weights."""
        self._model.load_state_dict(weights)


class FrozenAdapters:
    """The live policy with its adapters as they were when these were taken: all that training changes.

    Untrained adapters add nothing, so those of the start are the model without any.
    """

    resting = None

    def __init__(self, live: PreTrainedModel) -> None:
        self._live = live
        self._kept = {name: weight.detach().clone() for name, weight in adapters_of(live).items()}

    @property
    def nbytes(self) -> int:
        """Of the adapters."""
        return sum(weight.nbytes for weight in self._kept.values())

    @contextmanager
    def active(self) -> Iterator[PreTrainedModel]:
        """The live model, which has its own adapters again afterwards; a gradient may be due through those."""
        own = adapters_of(self._live)
        lent = {name: weight.data for name, weight in own.items()}
        try:
            for name, weight in own.items():
                weight.data = self._kept[name]
            yield self._live
        finally:
            for name, weight in own.items():
                weight.data = lent[name]

    def weights(self) -> Mapping[str, Tensor]:
        """The adapters."""
        return self._kept

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take over adapters."""
        for name, weight in self._kept.items():
            weight.copy_(weights[name])


class Average:
    """A moving average of the policy's weights, summed in float32 whatever the policy computes in.

    Args:
        shown: computes with it, rounded to its own type.
        rate: how much of the policy's weights comes in with each update.
    """

    def __init__(self, shown: Frozen, rate: float) -> None:
        self._shown, self._rate = shown, rate
        self._mean = {name: weight.detach().float().clone() for name, weight in shown.weights().items()}

    @property
    def resting(self) -> PreTrainedModel | None:
        """Of what is shown."""
        return self._shown.resting

    @property
    def nbytes(self) -> int:
        """Of what is shown and of the sum."""
        return self._shown.nbytes + sum(weight.nbytes for weight in self._mean.values())

    def active(self) -> AbstractContextManager[PreTrainedModel]:
        """Of what is shown."""
        return self._shown.active()

    def follow(self, weights: Mapping[str, Tensor]) -> None:
        """Move towards the policy's trained weights."""
        for name, mean in self._mean.items():
            mean.lerp_(weights[name].detach().to(mean), self._rate)
        self._shown.load(self._mean)

    def weights(self) -> Mapping[str, Tensor]:
        """The sum, float32."""
        return self._mean

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take over a sum."""
        for name, mean in self._mean.items():
            mean.copy_(weights[name])
        self._shown.load(self._mean)

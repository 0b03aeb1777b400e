"""A process' share of a policy in training: FSDP2 divides weights, gradients and AdamW's state among processes.

A share computes with all weights, a layer at a time, on micro-batches of its own. Gradients are summed over processes
in float32, so that a step is one process' step but for the order of these sums.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.utils._pytree import tree_map_only
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from stepcredit.harness.engine.rescore import Drawn
from stepcredit.harness.run.loss import Item, Terms, loss_terms
from stepcredit.harness.run.optimizer import adamw, wants_masters
from stepcredit.harness.run.trainer import Sums, move, passing, require_near
from stepcredit.harness.spec import RunSpec


class Pass(NamedTuple):
    """A micro-batch; where there is none left for a process, it passes another's that does not count."""

    items: Sequence[Item]
    counts: bool


class Share:
    """All processes make the same calls at the same time; the first one has the policy that shows what came of them.

    Args:
        model: a policy's, in evaluation; divided in place.
        spec: the run's.
        mesh: one dimension, all processes.
        live: the policy's trained weights, whole, on the first process.
    """

    def __init__(
        self, model: PreTrainedModel, spec: RunSpec, mesh: DeviceMesh, live: Sequence[Tensor] | None = None
    ) -> None:
        self._spec, self._mesh, self._live = spec, mesh, live
        self._model, masters = model, wants_masters(model)
        self._passing = _divided(model, mesh)
        self._weights = [weight for weight in model.parameters() if weight.requires_grad]
        self._optimizer = adamw(model, spec.optim, masters=masters, held=_held)

    def step(self, passes: Sequence[Pass], *, lr: float, tokens: int, total: int, drawn: Drawn) -> tuple[Sums, float]:
        """One optimiser step on all processes' micro-batches, which have so many tokens; then the policy follows.

        Raises:
            UserError: as of `Trainer.step`.
        """
        for settings in self._optimizer.param_groups:
            settings["lr"] = lr
        self._optimizer.zero_grad(set_to_none=True)
        sums = Sums()
        for items, counts in passes:
            with passing(self._model, self._spec):
                terms = self._passing(items, self._spec)
                (terms.loss / total * float(counts)).backward()
            sums = sums.plus(terms) if counts else sums
        sums = _of_all(sums)
        require_near(sums, tokens, drawn, self._spec)
        norm = move(self._optimizer, sums.loss, self._spec.optim.grad_clip, _whole_value)
        self._show()
        return sums, norm

    def optimizer_state(self) -> dict[str, Any]:
        """AdamW's state as one process has it, in host memory; without tensors on all but the first process."""
        first = self._live is not None
        return _map_tensors(self._optimizer.state_dict(), lambda part: _gathered(part, keep=first))

    def load(self, optimizer: Mapping[str, Any] | None) -> None:
        """Take over the policy's weights and such a state from the first process; others give its shapes alone."""
        with torch.no_grad():
            for place, weight in enumerate(self._weights):
                whole = torch.empty(weight.shape, device="meta") if self._live is None else self._live[place]
                weight.copy_(self._scattered(whole.float()))
        if optimizer is not None:
            self._optimizer.load_state_dict(_map_tensors(dict(optimizer), self._scattered))

    @torch.no_grad()
    def _show(self) -> None:
        for place, weight in enumerate(self._weights):
            whole = _as_divided(weight).full_tensor()
            if self._live is not None:
                self._live[place].copy_(whole)

    def _scattered(self, whole: Tensor) -> Tensor:
        """This process' part of the first one's tensor; counts of steps are not divided."""
        if whole.ndim == 0:
            return whole
        device = self._mesh.device_type
        there = torch.empty(whole.shape, dtype=whole.dtype, device=device) if whole.is_meta else whole.to(device)
        return distribute_tensor(there, self._mesh, [Shard(0)])


def shapes(state: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What other processes need of an optimiser's state to take over their parts."""
    return None if state is None else _map_tensors(dict(state), lambda part: part.to("meta") if part.ndim else part)


class _Passing(nn.Module):
    """The loss as a module's forward pass: weights outside the layers are whole while it runs."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, items: Sequence[Item], spec: RunSpec) -> Terms:
        return loss_terms(self.model, None, items, spec)


def _divided(model: PreTrainedModel, mesh: DeviceMesh) -> nn.Module:
    """The model's loss, its layers and the rest divided. Trained weights are float32, and compute as the model does."""
    precision = MixedPrecisionPolicy(param_dtype=model.dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for weight in model.parameters():
        weight.data = weight.data.float() if weight.requires_grad else weight.data
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    passing = _Passing(model)
    for module in (*layers, passing):
        divided = fully_shard(module, mesh=mesh, mp_policy=precision)
        divided.set_gradient_divide_factor(1.0)
        divided.set_force_sum_reduction_for_comms(True)
    return passing


def _held(tensor: Tensor) -> tuple[Tensor, int]:
    """What this process has of a divided tensor, and the place of its first element in the whole."""
    divided = _as_divided(tensor)
    rows, mesh = divided.shape[0], divided.device_mesh
    first = min(-(-rows // mesh.size()) * mesh.get_local_rank(), rows)
    return divided.to_local().detach(), first * (divided.numel() // rows)


def _as_divided(tensor: Tensor) -> DTensor:
    assert isinstance(tensor, DTensor)
    return tensor


def _of_all(sums: Sums) -> Sums:
    *added, largest = (torch.tensor(value, dtype=torch.float64) for value in sums)
    together = torch.stack(added)
    dist.all_reduce(together)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return Sums._make([*together.tolist(), largest.item()])


def _whole_value(norm: Tensor) -> float:
    return float(_as_divided(norm).full_tensor())


def _gathered(part: Tensor, *, keep: bool) -> Tensor | None:
    whole = part.full_tensor() if isinstance(part, DTensor) else part
    return whole.cpu() if keep else None


def _map_tensors(tree: dict[str, Any], change: Callable[[Tensor], Tensor | None]) -> dict[str, Any]:
    changed: dict[str, Any] = tree_map_only(Tensor, change, tree)
    return changed

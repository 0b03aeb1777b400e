"""A training pass that keeps next to nothing for its gradient, and computes it again when that is due.

Kept are the inputs of the layers and what the language head reads; logits over the vocabulary exist for some hundred
tokens at a time. That costs a third more compute, and changes no result but for rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from stepcredit.harness.engine.attention import packed_attention
from stepcredit.harness.engine.sequences import response_hidden
from stepcredit.harness.engine.stretches import TokenSequence
from stepcredit.harness.errors import UserError

HEAD_TOKENS = 512
"""Tokens whose logits exist at a time."""


def require_recomputable(model: PreTrainedModel) -> None:
    """Refuse a model that cannot compute again.

    Raises:
        UserError: its layers cannot, or its logits are more than what its head makes of the last layer.
    """
    if not _layers(model):
        raise UserError(f"{type(model).__name__} cannot compute its layers again; set optim.recompute=false")
    ids, head = torch.arange(3, device=model.device)[None], model.get_output_embeddings()
    with torch.no_grad():
        whole, own = model(input_ids=ids).logits, head(model.get_decoder()(input_ids=ids).last_hidden_state)
    if not torch.equal(own, whole):
        raise UserError(
            f"the logits of {type(model).__name__} are not its language head's alone; set optim.recompute=false"
        )


@contextmanager
def recomputing(model: PreTrainedModel) -> Iterator[None]:
    """Meanwhile layers keep their inputs alone; the backward pass has to be in it as well.

    A layer asks for its own `training` before it computes again. What lies in it stays in evaluation.
    """
    layers = _layers(model)
    usual = [layer.training for layer in layers]
    with packed_attention(model):
        for layer in layers:
            layer.gradient_checkpointing, layer.training = True, True
            layer._gradient_checkpointing_func = _again  # type: ignore[assignment]
        try:
            yield
        finally:
            for layer, training in zip(layers, usual, strict=True):
                layer.gradient_checkpointing, layer.training = False, training


_again = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)  # no layer draws anything


def _layers(model: PreTrainedModel) -> list[GradientCheckpointingLayer]:
    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def response_scores(
    model: PreTrainedModel, sequences: Sequence[TokenSequence], temperature: float, ids_Kk: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities [K] of all response tokens at the sampling temperature (1 where it is 0), entropies [K], and
    log-probabilities [K, k] of other tokens in their places; k is 0 where none are asked for."""
    hidden_KD, token_K = response_hidden(model, sequences)
    head = model.get_output_embeddings()
    others_Kk = token_K.new_zeros((len(token_K), 0)) if ids_Kk is None else ids_Kk
    chunks = (all_K.split(HEAD_TOKENS) for all_K in (hidden_KD, token_K, others_Kk))
    parts = [_again(_scores, head, *own, temperature) for own in zip(*chunks, strict=True)]
    logprobs, entropies, others = zip(*parts, strict=True)
    return torch.cat(logprobs), torch.cat(entropies), torch.cat(others)


def _scores(
    head: nn.Module, hidden_KD: Tensor, token_K: Tensor, ids_Kk: Tensor, temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    logprob_KV = (head(hidden_KD).float() / (temperature or 1.0)).log_softmax(-1)
    entropy_K = -(logprob_KV.exp() * logprob_KV).sum(-1)
    return logprob_KV.gather(1, token_K[:, None])[:, 0], entropy_K, logprob_KV.gather(1, ids_Kk)

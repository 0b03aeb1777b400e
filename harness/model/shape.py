"""The sizes of a model, from its configuration alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from stepcredit.harness.errors import UserError


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes of a decoder.

    Attributes:
        parameters: of all weights, tied ones once.
        layers: how many.
        hidden: size of a token between layers.
        intermediate: size of a token inside a layer's feed-forward part.
        vocabulary: rows of the output.
        bytes_per_token: keys and values of a token in all layers, bfloat16.
        linear_ends: inputs and outputs of all linear layers but the head; adapters have as many weights a rank.
    """

    parameters: int
    layers: int
    hidden: int
    intermediate: int
    vocabulary: int
    bytes_per_token: int
    linear_ends: int

    @classmethod
    def of(cls, config: PreTrainedConfig) -> ModelShape:
        """Read from a configuration; no weight takes memory.

        Raises:
            UserError: it is not that of a decoder with the usual names.
        """
        try:
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(config)
            size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
            heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
            return cls(
                sum(weight.numel() for weight in model.parameters()),
                config.num_hidden_layers,
                config.hidden_size,
                config.intermediate_size,
                config.vocab_size,
                4 * config.num_hidden_layers * heads * size,
                sum(layer.in_features + layer.out_features for layer in _linear(model)),
            )
        except (AttributeError, ValueError) as error:
            raise UserError(f"the configuration is not one of a decoder as they are known here: {error}") from error

    @property
    def layer_numbers(self) -> int:
        """Numbers a token that a layer's pass and its gradient have at a time: states, projections, feed-forward."""
        return 10 * self.hidden + 8 * self.intermediate


def _linear(model: PreTrainedModel) -> Iterator[nn.Linear]:
    """All linear layers but the head."""
    for module in model.modules():
        if isinstance(module, nn.Linear) and module is not model.get_output_embeddings():
            yield module

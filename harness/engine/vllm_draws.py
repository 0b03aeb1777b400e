"""The contract's draws inside vLLM, as a logits processor: imported by vLLM's process alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from vllm.v1.sample.logits_processor import LogitsProcessor
from vllm.v1.sample.logits_processor.interface import BatchUpdate, MoveDirectionality

from stepcredit.harness.engine.contract import draw
from stepcredit.harness.seeds import uniforms

_Row = tuple[dict[str, Any], Sequence[int]]


class ContractDraws(LogitsProcessor):  # type: ignore[misc]
    """Draws each row's token by `contract.draw` and leaves it alone possible, its log-probability as its logit.

    So vLLM, told to return processed logits, draws that token and reports that log-probability.
    """

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        self._rows: dict[int, _Row] = {}

    def is_argmax_invariant(self) -> bool:
        """It changes which token is likeliest."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow requests as they come, go and change places; their drawn tokens are lists that vLLM extends."""
        if batch_update is None:
            return
        for row in batch_update.removed:
            self._rows.pop(row, None)
        for row, params, _, drawn in batch_update.added:
            self._rows[row] = (params.extra_args["draw"], drawn)
        for source, target, direction in batch_update.moved:
            moved, other = self._rows.pop(source, None), self._rows.pop(target, None)
            if moved is not None:
                self._rows[target] = moved
            if other is not None and direction is MoveDirectionality.SWAP:
                self._rows[source] = other

    def apply(self, logits: Tensor) -> Tensor:
        """[B, V] logits of the batch, all but one of each row made impossible."""
        alike: dict[tuple[float, float, int], list[int]] = defaultdict(list)
        for row, (wish, _) in sorted(self._rows.items()):
            alike[wish["temperature"], wish["top_p"], wish["tokens"]].append(row)
        for (temperature, top_p, tokens), rows in alike.items():
            seeds = np.array([self._rows[row][0]["seed"] for row in rows], dtype=np.int64)
            indices = np.array([len(self._rows[row][1]) for row in rows], dtype=np.int64)
            uniform_B = torch.from_numpy(uniforms(seeds, indices)).to(logits.device)
            row_B = torch.tensor(rows, device=logits.device)
            token_B, logprob_B = draw(logits[row_B, :tokens], uniform_B, temperature, top_p)
            logits[row_B] = float("-inf")
            logits[row_B, token_B] = logprob_B
        return logits

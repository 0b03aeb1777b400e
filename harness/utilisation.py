"""Model FLOPs utilisation (MFU): what share of a machine's arithmetic goes into the model.

The operations are those that the model needs, not those that were done: what is computed again counts once (arXiv
2204.02311, appendix B). Attention's own products are left out, which grow with the context; so a number here is a
little low. A peak that is not known is not guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stepcredit.harness.errors import UserError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

PEAK = "STEPCREDIT_PEAK_TFLOPS"
_FORWARD, _BACKWARD = 2.0, 2.0
"""Operations a token and weight: of a pass, and of its gradient by inputs or by weights."""
_BFLOAT16_TFLOPS = (
    ("H100 PCIe", 756.0),
    ("H100 NVL", 835.0),
    ("H200 NVL", 835.0),
    ("H100", 989.0),
    ("H200", 989.0),
    ("A100", 312.0),
    ("B200", 2250.0),
)
"""Dense, from the maker's data sheets, by what the device's name contains; the first that fits."""


@dataclass(frozen=True, slots=True)
class Peak:
    """What a machine does at most.

    Attributes:
        tflops: None where that is not known.
        source: from where it is known, or why it is not.
    """

    tflops: float | None
    source: str


def peak_of(device: str, dtype: torch.dtype, environ: Mapping[str, str]) -> Peak:
    """Of a device by its name, for a model that computes in that type: as the environment says, or as its maker does.

    Raises:
        UserError: the environment's number is none.
    """
    if given := environ.get(PEAK):
        return Peak(_positive(given), f"given by {PEAK}")
    kind = str(dtype).removeprefix("torch.")
    known = next((tflops for name, tflops in _BFLOAT16_TFLOPS if name in device), None)
    if known is None or kind != "bfloat16" or "MIG" in device:
        return Peak(None, f"the peak of {device} in {kind} is not known here; set {PEAK} to have a utilisation")
    return Peak(known, "the maker's data sheet, dense bfloat16")


def gradient_flops(model: PreTrainedModel) -> float:
    """Operations a token of a pass and its gradient.

    Every weight but an input embedding, which is looked up, multiplies in the pass and for the gradient of its input;
    those that are trained once more for their own.
    """
    head, looked_up = model.get_output_embeddings(), model.get_input_embeddings()
    tied = head is not None and head.weight is looked_up.weight
    used = [weight for weight in model.parameters() if tied or weight is not looked_up.weight]
    trained = sum(weight.numel() for weight in used if weight.requires_grad)
    return (_FORWARD + _BACKWARD) * sum(weight.numel() for weight in used) + _BACKWARD * trained


def _positive(text: str) -> float:
    try:
        tflops = float(text)
    except ValueError:
        tflops = 0.0
    if not 0.0 < tflops < float("inf"):
        raise UserError(f"{PEAK} is {text!r}; set it to the machine's peak in TFLOP/s, a positive number, or unset it")
    return tflops

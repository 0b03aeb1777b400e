"""What a run needs of memory and disk, part by part, without its weights.

The counts are of what this code allocates: bfloat16 weights with float32 masters, gradients and moments
(`run.masters`), keys and values (`engine.cache`), and the update's activations. `tests/harness/study/test_budget.py`
holds them against the update itself, run on fake tensors of a 3B model's real size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from stepcredit.harness.engine.cached import CACHE_BYTES
from stepcredit.harness.engine.recompute import HEAD_TOKENS
from stepcredit.harness.episodes.rollout import AT_A_TIME
from stepcredit.harness.model.shape import ModelShape
from stepcredit.harness.record.checkpoint import KEPT
from stepcredit.harness.setup.settings import with_settings
from stepcredit.harness.spec import EngineName, RunSpec
from stepcredit.methods.registry import build

_DRAWN_TOGETHER = 26  # bytes a logit: bfloat16, two float32 and two int64 of it
_HEAD_BYTES = 18  # a logit, with the gradient


class When(StrEnum):
    """A phase of an update."""

    ALWAYS = "always"
    ROLLOUT = "rollouts and evaluations"
    CREDIT = "credit"
    UPDATE = "update"


@dataclass(frozen=True, slots=True)
class Part:
    """Something that takes memory."""

    name: str
    when: When
    bytes: int


@dataclass(frozen=True)
class Budget:
    """The parts of a run's memory, and its disk."""

    parts: tuple[Part, ...]
    disk_bytes: int
    kept_bytes: int
    """Of the disk, once the run has ended."""

    def at(self, when: When) -> int:
        """Memory in a phase."""
        return sum(part.bytes for part in self.parts if part.when in (When.ALWAYS, when))

    @property
    def peak(self) -> int:
        """Memory in the phase that needs most."""
        return max(self.at(when) for when in When)


def budget_of(spec: RunSpec, shape: ModelShape, teacher: ModelShape | None = None, *, processes: int = 1) -> Budget:
    """What the run needs; lengths are taken at their limits.

    Args:
        spec: the run's.
        shape: of its policy.
        teacher: of the other policy that teaches it; None where there is none, or one of the same shape.
        processes: that share its updates; the memory is the first one's, which needs most.
    """
    larger = max((shape, teacher or shape), key=lambda one: one.parameters)
    method = build(spec.method, spec.method_options)
    size, trained, needs = shape.parameters, _trained(spec, shape), method.needs
    copies = [
        ("stale teacher", When.CREDIT, trained, needs.stale_refresh is not None),
        ("initial policy as teacher", When.CREDIT, trained, needs.initial),
        ("average of weights as teacher", When.CREDIT, trained, needs.ema is not None),
        ("teacher", When.CREDIT, (teacher or shape).parameters, needs.checkpoint is not None),
        ("reference of the KL term", When.UPDATE, trained, spec.objective.kl > 0),
    ]
    always = [Part("weights, bfloat16", When.ALWAYS, 2 * size)]
    always += [] if spec.optim.rank is None else [Part("adapters, bfloat16", When.ALWAYS, 2 * trained)]
    always += [Part("float32 masters", When.ALWAYS, 4 * trained // processes)]
    always += [] if spec.optim.offload else [Part("moments of AdamW, float32", When.ALWAYS, 8 * trained // processes)]
    always += [] if processes == 1 else _divided(size, trained, shape, processes)
    always += [Part(name, when, 2 * weights) for name, when, weights, there in copies if there]
    kept = trained * (2 * (needs.stale_refresh is not None) + 4 * (needs.ema is not None))
    return Budget(
        (*always, *_passing(spec, shape, processes), *_reading(spec, larger)), KEPT * (14 * trained + kept), 2 * trained
    )


def _divided(size: int, trained: int, shape: ModelShape, processes: int) -> list[Part]:
    """What sharing adds (`run.sharded`): weights to compute with, of which some are whole for a while."""
    frozen, outside = max(size - trained, 0), 2 * shape.vocabulary * shape.hidden  # embeddings and head
    together = outside + 2 * (size - outside) // shape.layers  # FSDP2 gathers a layer while another one computes
    return [
        Part("share of the weights in training", When.ALWAYS, (4 * trained + 2 * frozen) // processes),
        Part("gathered weights, their gradients and sums", When.UPDATE, 8 * together),
    ]


def _trained(spec: RunSpec, shape: ModelShape) -> int:
    """Weights that training changes."""
    return shape.parameters if spec.optim.rank is None else spec.optim.rank * shape.linear_ends


def _passing(spec: RunSpec, shape: ModelShape, processes: int) -> Iterator[Part]:
    """What comes and goes."""
    context, tokens = spec.rollout.max_context_tokens, _tokens(spec)
    rows = max(1, min(AT_A_TIME, CACHE_BYTES // (context * shape.bytes_per_token)))  # an evaluation may have as many
    if spec.engine is EngineName.VLLM:
        copied = shape.parameters + shape.vocabulary * shape.hidden  # its head is never tied
        yield Part("weights in vLLM, bfloat16", When.ROLLOUT, 2 * copied)
        yield Part("keys and values in vLLM", When.ROLLOUT, CACHE_BYTES)
    else:
        yield Part(f"keys and values, {rows} episodes", When.ROLLOUT, rows * context * shape.bytes_per_token)
    yield Part("logits that are drawn from", When.ROLLOUT, rows * shape.vocabulary * _DRAWN_TOGETHER)
    yield Part("gradients, float32", When.UPDATE, 4 * _trained(spec, shape) // processes)
    if spec.optim.recompute:
        yield Part("inputs of the layers", When.UPDATE, 2 * tokens * shape.hidden * shape.layers)
        head = HEAD_TOKENS * shape.vocabulary * _HEAD_BYTES
        yield Part("a layer computed again", When.UPDATE, max(2 * tokens * shape.layer_numbers, head))
    else:
        yield Part("activations", When.UPDATE, 2 * tokens * shape.layer_numbers * shape.layers)
        responses = _responses(spec, tokens)
        yield Part(f"logits of {responses} tokens", When.UPDATE, responses * shape.vocabulary * _HEAD_BYTES)


def _reading(spec: RunSpec, shape: ModelShape) -> Iterator[Part]:
    """What comes and goes while the largest of the models scores."""
    tokens = _tokens(spec)
    responses = _responses(spec, tokens)
    at_once = min(responses, HEAD_TOKENS) if spec.optim.recompute else responses
    yield Part(f"logits of {at_once} tokens", When.CREDIT, at_once * shape.vocabulary * 10)
    # Without a gradient half the numbers of a layer, 2 bytes each; a transcript's keys and values, and its branches'.
    yield Part("activations of a layer", When.CREDIT, tokens * shape.layer_numbers)
    yield Part("keys and values of what is read again", When.CREDIT, 2 * tokens * shape.bytes_per_token)


def _tokens(spec: RunSpec) -> int:
    """Of a micro-batch."""
    return max(spec.optim.token_budget, spec.rollout.max_context_tokens)


def _responses(spec: RunSpec, tokens: int) -> int:
    """How many of so many tokens may be responses."""
    context, response = spec.rollout.max_context_tokens, spec.rollout.max_response_tokens
    return tokens * response // context if spec.rollout.window is not None else tokens


def changes_that_fit(
    spec: RunSpec, shape: ModelShape, available: int, teacher: ModelShape | None = None, *, processes: int = 1
) -> list[tuple[str, Budget]]:
    """Up to three settings, each enough by itself to fit, in the order of how little they change."""
    changed = ((text, with_settings(spec, [text])) for text in _candidates(spec))
    fitting = ((text, budget_of(other, shape, teacher, processes=processes)) for text, other in changed)
    return [(text, budget) for text, budget in fitting if budget.peak <= available][:3]


def _candidates(spec: RunSpec) -> Sequence[str]:
    budgets = (spec.optim.token_budget // part for part in (2, 4))
    return [
        *(["engine=transformers"] if spec.engine is not EngineName.TRANSFORMERS else []),
        *([] if spec.optim.recompute else ["optim.recompute=true"]),
        *([] if spec.optim.offload else ["optim.offload=true"]),
        *(f"optim.token_budget={size}" for size in budgets if size >= spec.rollout.max_context_tokens),
        *(["objective.kl=0"] if spec.objective.kl > 0 else []),
        *(["optim.rank=32"] if spec.optim.rank is None else []),
    ]


def gibibytes(count: int) -> float:
    """As GPUs are measured by their drivers."""
    return count / 2**30


def table_of(budget: Budget) -> list[dict[str, Any]]:
    """Rows of a listing: parts, then the phases' sums."""
    rows = [{"part": p.name, "when": str(p.when), "GiB": round(gibibytes(p.bytes), 2)} for p in budget.parts]
    phases = [when for when in When if when is not When.ALWAYS]
    return rows + [{"part": f"all, {when}", "when": "", "GiB": round(gibibytes(budget.at(when)), 2)} for when in phases]

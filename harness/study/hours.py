"""How long a run takes at most on a GPU, from the arithmetic it does and the rates of the GPU.

Every length counts at its limit. Rates are assumptions that the caller states, an H100's by default: no GPU is asked.
"""

from __future__ import annotations

from dataclasses import dataclass

from stepcredit.harness.engine.cached import CACHE_BYTES
from stepcredit.harness.episodes.rollout import AT_A_TIME
from stepcredit.harness.model.shape import ModelShape
from stepcredit.harness.run.schedule import evaluation_samples, evaluation_updates
from stepcredit.harness.spec import RunSpec
from stepcredit.methods.registry import build

_FORWARD, _BACKWARD = 2, 4  # floating-point operations a token and parameter


@dataclass(frozen=True, slots=True)
class Rates:
    """What a GPU sustains.

    Attributes:
        flops: bfloat16 operations a second in passes over whole sequences; 400e12 is 40% of an H100's peak.
        bandwidth: bytes of its memory a second while tokens are drawn; 2e12 is 60% of an H100's.
    """

    flops: float = 400e12
    bandwidth: float = 2e12


@dataclass(frozen=True, slots=True)
class Hours:
    """Of the whole run, by phase; evaluations of a whole split are unknown without its data, and 0."""

    rollouts: float
    credit: float
    updates: float
    evaluations: float

    @property
    def all(self) -> float:
        """Their sum."""
        return self.rollouts + self.credit + self.updates + self.evaluations


def hours_of(spec: RunSpec, shape: ModelShape, rates: Rates, *, processes: int = 1) -> Hours:
    """At most so long, with every episode as long as it may become; a GPU for each process that shares the updates."""
    episodes = spec.rollout.tasks * spec.rollout.group
    read = episodes * _read_tokens(spec)
    method = build(spec.method, spec.method_options)
    scored = 1 + method.needs.other_weights
    passes = (_FORWARD * (2 if spec.optim.recompute else 1) + _BACKWARD) * spec.optim.epochs
    reference = _FORWARD * (spec.objective.kl > 0)
    a_pass = read * shape.parameters / rates.flops / 3600
    samples = sum(evaluation_samples(spec, update) for update in evaluation_updates(spec))
    evaluated = samples * (spec.evaluation.size or 0)
    return Hours(
        rollouts=spec.updates * _drawing(spec, shape, rates, episodes),
        credit=spec.updates * a_pass * _FORWARD * scored,
        updates=spec.updates * a_pass * (passes / processes + reference),
        evaluations=_drawing(spec, shape, rates, evaluated),
    )


def _read_tokens(spec: RunSpec) -> int:
    """Of an episode: a prompt for each turn, or one transcript."""
    prompts = spec.rollout.max_turns if spec.rollout.window is not None else 1
    return prompts * spec.rollout.max_context_tokens


def _drawing(spec: RunSpec, shape: ModelShape, rates: Rates, episodes: int) -> float:
    """Hours for the episodes' own tokens: prompts are arithmetic, each drawn token reads the weights and the cache."""
    context, turns = spec.rollout.max_context_tokens, spec.rollout.max_turns
    reading = episodes * _read_tokens(spec) * shape.parameters * _FORWARD / rates.flops
    live = max(1, min(episodes, AT_A_TIME, CACHE_BYTES // (context * shape.bytes_per_token)))
    rounds = -(-episodes // live)
    a_token = (2 * shape.parameters + live * context * shape.bytes_per_token) / rates.bandwidth
    return (reading + rounds * turns * spec.rollout.max_response_tokens * a_token) / 3600

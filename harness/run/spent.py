"""What an update took: seconds and tokens by part, and how much of the machine's arithmetic its gradient used."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter

from transformers import PreTrainedModel

from stepcredit.harness.determinism import device_name
from stepcredit.harness.energy import Meter, counters_of
from stepcredit.harness.record.rows import EpisodeRow, TimingRow, UpdateStats
from stepcredit.harness.run.learner import Learner
from stepcredit.harness.utilisation import Peak, gradient_flops, peak_of

_LEAST_S = 1e-9


class Seconds:
    """Wall time by part of an update, and the energy of all parts, on that torch device."""

    def __init__(self, device: str) -> None:
        self._parts = dict.fromkeys(("rollout_s", "credit_s", "update_s", "eval_s"), 0.0)
        self._meter = Meter(counters_of(device))

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Time a block."""
        start = perf_counter()
        with self._meter.running():
            yield
        self._parts[part] += perf_counter() - start

    def row(self, update: int) -> TimingRow:
        """The row after `update` updates."""
        parts = self._parts
        return TimingRow(
            update,
            parts["rollout_s"],
            parts["credit_s"],
            parts["update_s"],
            parts["eval_s"],
            energy_j=self._meter.joules,
        )


def timing_of(
    seconds: TimingRow, rollouts: Sequence[EpisodeRow], stats: UpdateStats, learner: Learner, devices: int
) -> TimingRow:
    """The row with its tokens, and the utilisation of so many devices that follows from them; the rescorer's count
    begins anew."""
    model = learner.policy.model
    tflops = gradient_flops(model) * stats.gradient_tokens / max(seconds.update_s, _LEAST_S) / 1e12
    most = peak_here(model).tflops
    return replace(
        seconds,
        rollout_tokens=_tokens_of(rollouts),
        rescored_tokens=learner.rescorer.take_read_tokens(),
        gradient_tokens=stats.gradient_tokens,
        update_tflops=tflops,
        update_mfu=None if most is None else tflops / most / devices,
    )


def evaluated(row: TimingRow, seconds: TimingRow, played: Sequence[EpisodeRow]) -> TimingRow:
    """The row after an update with the evaluation that followed it."""
    told = [energy for energy in (row.energy_j, seconds.energy_j) if energy is not None]
    return replace(
        row, eval_s=seconds.eval_s, eval_tokens=_tokens_of(played), energy_j=math.fsum(told) if told else None
    )


def peak_here(model: PreTrainedModel) -> Peak:
    """Of the device that the model is on.

    Raises:
        UserError: the environment gives a peak that is none.
    """
    return peak_of(device_name(model.device.type), model.dtype, os.environ)


def _tokens_of(episodes: Sequence[EpisodeRow]) -> int:
    """Read and drawn."""
    return sum(row.prompt_tokens + row.response_tokens for row in episodes)

"""Where a case's credit would move the policy, beside where the true step advantages would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from stepcredit.harness.engine.sequences import response_logprobs
from stepcredit.harness.engine.stretches import TokenSequence, stretches_of
from stepcredit.harness.fidelity.ranks import Estimate, clustered
from stepcredit.harness.model.policy import Policy
from stepcredit.harness.seeds import seed_for
from stepcredit.harness.spec import RunSpec
from stepcredit.methods.contract import Group, Span

_WIDTH = 32_768
"""Numbers that a gradient is hashed into (count sketch): inner products keep to some 0.5% of the lengths' product."""
_KEY = ["task_id", "trajectory", "step"]


@dataclass(frozen=True, slots=True)
class Aligned:
    """A case's policy gradient, from each step's action and its mean credit.

    Attributes:
        cosine: with the gradient that A* makes of the same steps.
        noise: variance of the mean over tasks, relative to the mean's squared length.
    """

    case: str
    cosine: Estimate
    noise: Estimate


@dataclass(frozen=True, slots=True)
class Directions:
    """For each step the sketched gradient of its action's log-probability.

    Attributes:
        keys: task_id, trajectory and step of each row.
        sketch_NS: [N, S].
    """

    keys: pd.DataFrame
    sketch_NS: NDArray[np.float32]


def directions(policy: Policy, groups: Sequence[Group], spec: RunSpec) -> Directions:
    """Of all steps with an action in groups with successes and failures."""
    sketch = _Sketch(policy)
    rows, sketches = list[dict[str, str | int]](), list[NDArray[np.float32]]()
    for group in (group for group in groups if group.mixed):
        for trajectory in group.trajectories:
            first = 0
            for steps in stretches_of(trajectory):
                scores_T = response_logprobs(policy.model, [TokenSequence.of(steps)], spec.rollout.temperature)
                parts = scores_T.split([len(step.response_ids) for step in steps])
                for number, (step, part_T) in enumerate(zip(steps, parts, strict=True), start=first):
                    span = step.tagged or step.action or Span(0, len(part_T))
                    if span.end > span.start:
                        sketches.append(sketch.of(part_T[span.start : span.end].sum()))
                        rows.append({"task_id": group.task_id, "trajectory": trajectory.index, "step": number})
                first += len(steps)
    return Directions(pd.DataFrame(rows, columns=_KEY), np.array(sketches).reshape(len(rows), _WIDTH))


def aligned(found: Directions, steps: pd.DataFrame, credits: pd.DataFrame) -> list[Aligned]:
    """Every case, in the order in which it first occurs; what an arm cannot serve is in neither gradient."""
    truth = steps.loc[steps["mixed"], [*_KEY, "advantage"]]
    numbered = found.keys.assign(row=range(len(found.keys))).merge(truth, on=_KEY)
    return [
        _of_case(str(case), numbered.merge(own.loc[own["served"], [*_KEY, "credit"]], on=_KEY), found.sketch_NS)
        for case, own in credits.groupby("case", sort=False)
    ]


def _of_case(case: str, own: pd.DataFrame, sketch_NS: NDArray[np.float32]) -> Aligned:
    parts = [_both(rows, sketch_NS) for _, rows in own.groupby("task_id", sort=True)]
    return Aligned(case, clustered(parts, _cosine), clustered(parts, _noise))


def _both(rows: pd.DataFrame, sketch_NS: NDArray[np.float32]) -> NDArray[np.float64]:
    """[1, 2 S] a task's gradient by credit, and by truth."""
    own_KS = sketch_NS[rows["row"].to_numpy()].astype(np.float64)
    sums = [rows[name].to_numpy(np.float64) @ own_KS for name in ("credit", "advantage")]
    return np.concatenate(sums)[None]


def _cosine(rows_CS: NDArray[np.float64]) -> float:
    given_S, true_S = np.split(rows_CS.sum(0), 2)
    lengths = float(np.linalg.norm(given_S) * np.linalg.norm(true_S))
    return float(given_S @ true_S) / lengths if lengths > 0.0 else float("nan")


def _noise(rows_CS: NDArray[np.float64]) -> float:
    given_CS = rows_CS[:, :_WIDTH]
    if len(given_CS) < 2:
        return float("nan")
    mean_S = given_CS.mean(0)
    square = float(mean_S @ mean_S)
    variance = float(((given_CS - mean_S) ** 2).sum()) / (len(given_CS) - 1) / len(given_CS)
    return variance / square if square > 0.0 else float("nan")


class _Sketch:
    """Hashes gradients, parameter by parameter, with signs (Charikar et al. 2002)."""

    def __init__(self, policy: Policy) -> None:
        self._weights = [weight for weight in policy.model.parameters() if weight.requires_grad]
        count = sum(weight.numel() for weight in self._weights)
        generator = torch.Generator().manual_seed(seed_for("sketch", count))
        self._bucket_P = torch.randint(_WIDTH, (count,), generator=generator)
        self._sign_P = torch.randint(2, (count,), generator=generator).float() * 2.0 - 1.0

    def of(self, score: Tensor) -> NDArray[np.float32]:
        """[S] of the score's gradient."""
        gradients = torch.autograd.grad(score, self._weights, retain_graph=True)
        flat_P = torch.cat([gradient.flatten() for gradient in gradients]).float().cpu()
        found: NDArray[np.float32] = torch.zeros(_WIDTH).index_add(0, self._bucket_P, flat_P * self._sign_P).numpy()
        return found


def as_record(row: Aligned) -> dict[str, object]:
    """As JSON has it."""
    return {"case": row.case, "cosine": row.cosine.described(), "noise": row.noise.described()}

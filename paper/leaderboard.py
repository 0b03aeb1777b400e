"""A study's methods as JSON rows, for boards that others keep: numbers, what they were taken over, and every hash."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stepcredit.paper.aggregates import difference_to_baseline, final_success, initial_success, learning
from stepcredit.paper.results import BASELINE, Study
from stepcredit.paper.statistics import Estimate, holm


def leaderboard(study: Study) -> Iterator[dict[str, Any]]:
    """A row a method; rates and differences are fractions, intervals 95%."""
    gaps = {
        method: None if method == BASELINE or BASELINE not in study.methods else difference_to_baseline(study, method)
        for method in study.methods
    }
    corrected = dict(zip(gaps, holm([None if gap is None else gap.p_value for gap in gaps.values()]), strict=True))
    spec, panel = study.manifest.spec, study.manifest.panels.eval
    for method in study.methods:
        runs = study.of(method)
        yield {
            "method": method,
            "label": study.label(method),
            "benchmark": spec.benchmark,
            "suite": spec.suite,
            "policy": spec.model,
            "policy_sha256": study.manifest.policy.weights_sha256,
            "updates": spec.updates,
            "trajectories": study.trajectories,
            "panel": {"split": panel.split, "tasks": panel.size, "sha256": panel.sha256},
            "score": study.score.lower(),
            "before": _numbers(initial_success(study)),
            "after": _numbers(final_success(study, method)),
            "change": _numbers(learning(study, method)),
            "minus_grpo": _numbers(gaps[method]),
            "p_holm": corrected[method],
            "by_subset": {subset: _numbers(final_success(study, method, subset)) for subset in study.subsets},
            "runs": [
                {
                    "seed": run.spec.seed,
                    "spec_sha256": run.manifest.spec_sha256,
                    "episodes_sha256": run.manifest.files.get("episodes.parquet"),
                    "final_weights_sha256": run.manifest.final_weights_sha256,
                    "code": run.manifest.git_commit,
                }
                for run in runs
            ],
        }


def _numbers(estimate: Estimate | None) -> dict[str, Any] | None:
    if estimate is None:
        return None
    return {
        "mean": estimate.mean,
        "low": estimate.low,
        "high": estimate.high,
        "over": str(estimate.interval),
        "by_seed": list(estimate.by_seed),
        "n": estimate.n,
    }

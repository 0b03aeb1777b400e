"""`stepcredit warmstart --model`: a pretrained model imitates experts until it can play, resumably.

Demonstrations are episodes like those of training, so their prompts are what the policy will see; a step is the update
of a run, with a credit of 1 on what is to be imitated. The folder is in the hub's layout and a `--model` of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from stepcredit.envs import load_benchmark
from stepcredit.envs.contract import Benchmark
from stepcredit.harness.engine.recompute import require_recomputable
from stepcredit.harness.errors import UserError
from stepcredit.harness.imitation.scenes import perform, scenes_of, take
from stepcredit.harness.model.adapters import add_adapters, load_trained, merge_adapters, trained_weights
from stepcredit.harness.model.policy import Policy, load_policy, weights_sha256
from stepcredit.harness.model.presets import Source, preset_named
from stepcredit.harness.record import checkpoint, files
from stepcredit.harness.record.checkpoint import RunState, SavedWeights
from stepcredit.harness.run.objective import update_policy
from stepcredit.harness.run.optimizer import optimizer_of
from stepcredit.harness.run.schedule import learning_rate
from stepcredit.harness.setup.panels import held_out_panel
from stepcredit.harness.setup.settings import build_spec
from stepcredit.harness.spec import RunSpec
from stepcredit.harness.warmstart.measure import measure_arm
from stepcredit.methods.contract import Credit, Group

NAME = "warmstart.json"
_NOTES = "steps.json"
_USUAL = (
    *("updates=200", "checkpoint_every=10", "rollout.tasks=8", "rollout.group=1", "evaluation.size=50"),
    *("objective.kl=0", "optim.warmup=0.05", "optim.schedule=linear", "optim.lr=1e-4"),
)
_SECTIONS = {"model", "benchmark", "suite", "env_options", "seed", "updates", "rollout", "optim", "evaluation"}
_FREE = ("updates", "checkpoint_every", "rollout.", "optim.", "evaluation.", "env_options.")


@dataclass(frozen=True, slots=True)
class Told:
    """How far it is: steps done of how many, the last one's loss an imitated token, response tokens a second."""

    step: int
    steps: int
    loss: float
    rate: float


def imitation_spec(model: str, benchmark: str, suite: str | None, seed: int, overrides: Sequence[str]) -> RunSpec:
    """The model's own settings for the benchmark, with those of imitation: steps are updates, their episodes tasks.

    Raises:
        UserError: an embedded policy, or an unknown setting or one without effect here.
    """
    if preset_named(model).source is Source.EMBEDDED:
        raise UserError(f"model {model!r} is embedded: its warm start takes no options; leave out --model")
    for text in overrides:
        if not text.startswith(_FREE):
            raise UserError(f"--set {text} has no effect on a warm start; settings of it are {', '.join(_FREE)[:-1]}")
    chosen = [*_USUAL, *overrides]
    return build_spec(model=model, benchmark=benchmark, suite=suite, method="grpo", seed=seed, overrides=chosen)


def _identity(spec: RunSpec) -> str:
    """Of the warm start: no run has its hash."""
    return spec.model_copy(update={"method_options": {"imitation": 0}}).sha256


def warm_start(spec: RunSpec, folder: Path, device: str, tell: Callable[[Told], None]) -> dict[str, Any]:
    """Make the policy, or go on making it; returns its manifest.

    Args:
        spec: what to make.
        folder: new, or of a warm start with the same spec.
        device: as torch names it.
        tell: is told after every step.

    Raises:
        UserError: the folder is another's or in use, a file cannot be written, or the model cannot be trained so.
    """
    files.make_folder(folder)
    with files.exclusive(folder):
        made = folder / NAME
        if made.exists():
            return _require_same(files.read_json(made), spec, made)
        benchmark = load_benchmark(spec.benchmark, spec.suite, spec.env_options)
        policy = load_policy(spec.model, benchmark, device, thinking=spec.rollout.thinking)
        before = weights_sha256(policy.model)
        notes = _begun(folder, spec, policy, benchmark)
        if spec.optim.recompute:
            require_recomputable(policy.model)
        _imitate(spec, policy, folder, notes, tell)
        return _end(spec, policy, benchmark, folder, notes | {"weights_sha256_before": before})


def _begun(folder: Path, spec: RunSpec, policy: Policy, benchmark: Benchmark) -> dict[str, Any]:
    """The notes so far: at first what the model can do untrained."""
    path = folder / _NOTES
    if path.exists():
        return _require_same(files.read_json(path), spec, path)
    notes = {"spec_sha256": _identity(spec), "before": _measured(spec, policy, benchmark), "losses": []}
    files.write_json(path, notes)
    return notes


def _require_same(found: dict[str, Any], spec: RunSpec, path: Path) -> dict[str, Any]:
    if found.get("spec_sha256") != _identity(spec):
        raise UserError(f"{path} is of another warm start; choose another folder with --out, or the same settings")
    return found


def _imitate(spec: RunSpec, policy: Policy, folder: Path, notes: dict[str, Any], tell: Callable[[Told], None]) -> None:
    """All steps, from the last checkpoint if there is one."""
    model = policy.model
    if spec.optim.rank is not None:
        add_adapters(model, spec.optim.rank, spec.seed)
    optimizer = optimizer_of(model, spec.optim)
    first = _resume(folder, spec, model, optimizer)
    losses = notes["losses"][:first]
    scenes = scenes_of(spec.benchmark, spec.suite, spec.env_options)
    for number in range(first, spec.updates):
        began = time.perf_counter()
        for settings in optimizer.param_groups:
            settings["lr"] = learning_rate(spec, number)
        shown = [perform(scene, policy, spec.rollout) for scene in take(scenes(spec.seed, number), spec.rollout.tasks)]
        groups = [Group(trajectory.task_id, (trajectory,)) for trajectory, _ in shown]
        stats = update_policy(policy, None, optimizer, groups, [[credit] for _, credit in shown], spec, update=number)
        losses.append(stats.loss * _tokens_an_imitated([credit for _, credit in shown]))
        tell(Told(number + 1, spec.updates, losses[-1], stats.response_tokens / (time.perf_counter() - began)))
        if (number + 1) % spec.checkpoint_every == 0 or number + 1 == spec.updates:
            weights = SavedWeights(trained_weights(model), optimizer.state_dict())
            checkpoint.save(folder, _identity(spec), RunState(number + 1), weights)
            files.write_json(folder / _NOTES, notes | {"losses": losses})
    notes["losses"] = losses


def _tokens_an_imitated(credits: Sequence[Credit]) -> float:
    """Response tokens over those that are imitated: an update's loss is a mean over the former."""
    weight_T = torch.cat([credit.distill_T for credit in credits if credit.distill_T is not None])
    return len(weight_T) / max(float(weight_T.sum()), 1.0)


def _resume(folder: Path, spec: RunSpec, model: PreTrainedModel, optimizer: Any) -> int:
    """Steps done so far, whose weights are loaded."""
    kept = checkpoint.available(folder)
    if not kept:
        return 0
    state, weights = checkpoint.load(kept[-1], _identity(spec))
    load_trained(model, weights.model)
    assert weights.optimizer is not None
    optimizer.load_state_dict(dict(weights.optimizer))
    return state.update


def _end(spec: RunSpec, policy: Policy, benchmark: Benchmark, folder: Path, notes: dict[str, Any]) -> dict[str, Any]:
    """Weights in the hub's layout, then the manifest, then no checkpoints any more."""
    if spec.optim.rank is not None:
        merge_adapters(policy.model)
    policy.model.save_pretrained(folder)
    policy.tokenizer.save_pretrained(folder)
    manifest = {
        "spec": spec.model_dump(mode="json", include=_SECTIONS),
        "base": policy.provenance,
        **notes,
        "after": _measured(spec, policy, benchmark),
        "weights_sha256": weights_sha256(policy.model),
        "files": {path.name: files.sha256_of(path) for path in sorted(folder.glob("*.safetensors"))},
    }
    files.write_json(folder / NAME, manifest)
    for old in checkpoint.available(folder):
        old.unlink()
    (folder / _NOTES).unlink()
    return manifest


def _measured(spec: RunSpec, policy: Policy, benchmark: Benchmark) -> dict[str, Any]:
    panel = held_out_panel(spec.evaluation, benchmark)
    return asdict(measure_arm(policy, benchmark, panel, spec.rollout, "none", {}))

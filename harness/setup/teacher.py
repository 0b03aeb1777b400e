"""Another policy as teacher: where it lies, and whether it speaks of the same tokens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from stepcredit.envs import load_benchmark
from stepcredit.envs.contract import Benchmark
from stepcredit.harness.errors import UserError
from stepcredit.harness.model.adapters import take_over
from stepcredit.harness.model.policy import Policy, load_policy, load_shape
from stepcredit.harness.model.presets import Source, preset_named
from stepcredit.harness.model.shape import ModelShape
from stepcredit.harness.record import checkpoint, manifest
from stepcredit.harness.record.manifest import Manifest
from stepcredit.harness.spec import RunSpec
from stepcredit.methods.registry import build


def load_teacher(name: str, student: Policy, benchmark: Benchmark) -> Policy:
    """The policy that a method's option `checkpoint` names, frozen, in host memory.

    Args:
        name: what `--model` takes; or a run's folder, of which the last checkpoint counts.
        student: the policy that it teaches.
        benchmark: the run's.

    Raises:
        UserError: there is no such policy, it is damaged, or its vocabulary is another one.
        EnvError: a run's benchmark cannot be opened.
    """
    teacher = _found(name, benchmark)
    _require_same_vocabulary(teacher, student, name)
    teacher.model.eval()
    teacher.model.requires_grad_(False)
    return teacher


def teacher_shape(spec: RunSpec) -> ModelShape | None:
    """The sizes of the other policy that a run's method learns from, without its weights; None for none from the hub.

    Raises:
        UserError: there is no such policy.
    """
    name = build(spec.method, spec.method_options).needs.checkpoint
    if name is None:
        return None
    run = manifest.read(Path(name))
    model = name if run is None else run.spec.model
    return None if preset_named(model).source is Source.EMBEDDED else load_shape(model)


def _found(name: str, benchmark: Benchmark) -> Policy:
    folder = Path(name)
    run = None if (folder / "config.json").is_file() else manifest.read(folder)
    if run is not None:
        return _trained(run, folder)
    try:
        return load_policy(name, benchmark)
    except UserError as error:
        raise UserError(
            f"the teacher {name!r} is no run's folder, and as a model: {error}; set method_options.checkpoint to a "
            "run's folder or to what --model takes"
        ) from error


def _trained(run: Manifest, folder: Path) -> Policy:
    """The policy of a run as it is in the last checkpoint, on whichever benchmark it was trained."""
    spec = run.spec
    policy = load_policy(spec.model, load_benchmark(spec.benchmark, spec.suite, spec.env_options))
    state, weights = checkpoint.load(checkpoint.find(folder), run.spec_sha256)
    take_over(policy.model, weights.model, spec.optim.rank)
    return replace(policy, provenance=f"run {run.cell} of spec {run.spec_sha256}, update {state.update}")


def _require_same_vocabulary(teacher: Policy, student: Policy, name: str) -> None:
    """Token ids must mean the same to both, added tokens too."""
    theirs, ours = (
        {number: token for token, number in policy.tokenizer.get_vocab().items()} for policy in (teacher, student)
    )
    if theirs != ours:
        first = min(number for number in {*theirs, *ours} if theirs.get(number) != ours.get(number))
        raise UserError(
            f"the teacher {name!r} has another vocabulary than {student.preset!r}: token {first} is "
            f"{theirs.get(first)!r}, not {ours.get(first)!r} ({len(theirs)} tokens, not {len(ours)}); choose one that "
            "shares the student's tokenizer"
        )

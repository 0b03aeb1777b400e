"""A run's parts: policy, benchmark, method and panels, found by the names in its spec."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial

from stepcredit.envs import load_benchmark
from stepcredit.envs.contract import Benchmark, EnvError
from stepcredit.envs.panel import Panel
from stepcredit.harness.errors import UserError
from stepcredit.harness.model.policy import Policy, load_policy, weights_sha256
from stepcredit.harness.record.manifest import Inputs, PanelRecord, PolicyRecord
from stepcredit.harness.setup.panels import held_out_panel
from stepcredit.harness.setup.skills import fingerprint, load_skills
from stepcredit.harness.setup.teacher import load_teacher
from stepcredit.harness.spec import EvalSpec, Penalised, Reference, RunSpec
from stepcredit.harness.words import counted
from stepcredit.methods.contract import Method
from stepcredit.methods.registry import build


@dataclass(frozen=True, slots=True)
class Parts:
    """What a run is made of; `teacher` is another policy and `skills` are texts by subset, for methods that ask."""

    policy: Policy
    benchmark: Benchmark
    method: Method
    train_panel: Panel
    eval_panel: Panel
    teacher: Policy | None = None
    skills: Mapping[str, str] = field(default_factory=dict)

    @property
    def inputs(self) -> Inputs:
        """Identity of the weights and data; to be read before training changes the weights."""
        return record_inputs(self.policy, self.benchmark, self.train_panel, self.eval_panel, self.teacher, self.skills)


def assemble(spec: RunSpec, device: str) -> Parts:
    """Load everything that the spec names.

    Raises:
        UserError: unknown or damaged policy or teacher, or more tasks per update than the split has.
        EnvError: unknown benchmark, suite or split, unusable data, or no reference trajectories for a method that
            needs them.
        MethodError: unknown method or option.
    """
    benchmark = load_benchmark(spec.benchmark, spec.suite, spec.env_options)
    train_panel = benchmark.panel(spec.train_split)
    _require_tasks(spec, len(train_panel.tasks))
    method = build(spec.method, spec.method_options)
    _require_snapshot(spec, method)
    _require_scored_steps(spec, method)
    _require_references(method, benchmark, train_panel)
    policy, wanted = load_policy(spec.model, benchmark, device, thinking=spec.rollout.thinking), method.needs.checkpoint
    teacher = None if wanted is None else load_teacher(wanted, policy, benchmark)
    skills = load_skills(method.needs.skills, benchmark.subsets)
    return Parts(policy, benchmark, method, train_panel, held_out_panel(spec.evaluation, benchmark), teacher, skills)


def record_inputs(
    policy: Policy,
    benchmark: Benchmark,
    train_panel: Panel,
    eval_panel: Panel,
    teacher: Policy | None = None,
    skills: Mapping[str, str] | None = None,
) -> Inputs:
    """Identity of weights and data as they are now."""
    return Inputs(
        data={**benchmark.provenance(), **({"skills": fingerprint(skills)} if skills else {})},
        panels={"train": PanelRecord.of(train_panel), "eval": PanelRecord.of(eval_panel)},
        subsets=list(benchmark.subsets),
        trained_subsets=list(trained) if (trained := benchmark.trained_subsets) != benchmark.subsets else [],
        policy=_policy_record(policy),
        teacher=None if teacher is None else _policy_record(teacher),
    )


def _policy_record(policy: Policy) -> PolicyRecord:
    return PolicyRecord(
        preset=policy.preset,
        parameters=policy.parameters,
        weights_sha256=weights_sha256(policy.model),
        provenance=policy.provenance,
    )


def inputs_of(spec: RunSpec) -> Inputs:
    """The weights and data that the spec starts from now; the same for all seeds, and for all methods but a teacher.

    Raises:
        UserError: unknown or damaged policy, a split shorter than asked for.
        EnvError: unknown benchmark, suite or split, or unusable data.
    """
    return inputs_lookup()(spec)


def inputs_lookup() -> Callable[[RunSpec], Inputs]:
    """`inputs_of` for the specs of one command, which load nothing twice; data may have changed by the next command."""
    return partial(_inputs_of, lru_cache(maxsize=8)(_inputs))


def _inputs_of(load: Callable[..., Inputs], spec: RunSpec) -> Inputs:
    options = json.dumps(spec.env_options, sort_keys=True)
    needs = build(spec.method, spec.method_options).needs
    asked = (needs.checkpoint, needs.skills)
    inputs = load(spec.model, spec.benchmark, spec.suite, options, spec.train_split, spec.evaluation, *asked)
    _require_tasks(spec, inputs.panels["train"].size)
    return inputs


def _inputs(
    model: str,
    benchmark: str,
    suite: str,
    options: str,
    train_split: str,
    evaluation: EvalSpec,
    teacher_name: str | None,
    skills: str | None,
) -> Inputs:
    tasks = load_benchmark(benchmark, suite, json.loads(options))
    policy = load_policy(model, tasks)
    teacher = None if teacher_name is None else load_teacher(teacher_name, policy, tasks)
    panels = tasks.panel(train_split), held_out_panel(evaluation, tasks)
    return record_inputs(policy, tasks, *panels, teacher, load_skills(skills, tasks.subsets))


def _require_references(method: Method, benchmark: Benchmark, panel: Panel) -> None:
    """Before anything is drawn; the first task of each subset stands for all of its kind."""
    if method.needs.golden:
        first_of = {task.subset: task for task in reversed(panel.tasks)}
        try:
            for task in first_of.values():
                benchmark.solution(task.id)
        except EnvError as error:
            raise EnvError(
                f"method {method.name!r} with these options (hindsight 'golden_rollout') needs reference trajectories: "
                f"{error}; change the option or the suite"
            ) from error


def _require_snapshot(spec: RunSpec, method: Method) -> None:
    """Whether there is what the KL term is to be measured from."""
    if spec.objective.reference is not Reference.TEACHER:
        return
    if spec.objective.kl == 0.0:
        raise UserError("objective.reference has no effect while objective.kl is 0; leave one out or set the other")
    if method.needs.stale_refresh is None:
        raise UserError(
            f"objective.reference is teacher, but method {method.name!r} with these options keeps no snapshot of the "
            "policy; set objective.reference=initial"
        )


def _require_scored_steps(spec: RunSpec, method: Method) -> None:
    """Whether the method reads what steps are to pay."""
    if spec.objective.penalised is not Penalised.STEP:
        return
    if spec.objective.invalid_penalty == 0.0:
        raise UserError("objective.penalised has no effect while objective.invalid_penalty is 0; leave it out")
    if not method.scores_steps:
        raise UserError(
            f"objective.penalised is step, but method {method.name!r} with these options gives all steps one score; "
            "set objective.penalised=episode, or method_options.rows=true where the method has that option"
        )


def _require_tasks(spec: RunSpec, available: int) -> None:
    if spec.rollout.tasks > available:
        raise UserError(
            f"rollout.tasks is {spec.rollout.tasks}, but split {spec.train_split} of {spec.benchmark}-{spec.suite} has "
            f"{counted(available, 'task')}; ask for at most as many"
        )

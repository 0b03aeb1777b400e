"""The examination of a trained run: its starting weights and a checkpoint, written to the run's record."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa
import pyarrow.parquet as pq

from stepcredit.envs import load_benchmark
from stepcredit.envs.searchqa.metrics import mean_exact
from stepcredit.envs.searchqa.questions import Question
from stepcredit.harness.capability.lm import MAX_NEW_TOKENS, Answer, Report, examine
from stepcredit.harness.capability.regression import regression
from stepcredit.harness.capability.tasks import Task, closed_book, sha256_of
from stepcredit.harness.determinism import switch_on
from stepcredit.harness.device import resolve
from stepcredit.harness.errors import UserError
from stepcredit.harness.model.adapters import take_over
from stepcredit.harness.model.policy import Policy, load_policy, weights_sha256
from stepcredit.harness.model.presets import preset_named
from stepcredit.harness.record import checkpoint, files, manifest
from stepcredit.harness.record.manifest import Manifest
from stepcredit.harness.spec import RunSpec

FOLDER = "capability"
LIMIT = 50
SEED = 0
_SCHEMA = pa.schema(
    [
        pa.field("phase", pa.string(), nullable=False),
        pa.field("update", pa.int64(), nullable=False),
        *(pa.field(name, pa.string(), nullable=False) for name in ("suite", "subset", "example_id", "metric")),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("response", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class Examination:
    """What is asked, the same before training and after it."""

    tasks: tuple[Task, ...]
    limit: int

    @classmethod
    def of(cls, questions: Sequence[Question], limit: int) -> Examination:
        """The questions closed-book, and the regression suite."""
        return cls((*closed_book(questions), *regression(SEED)), limit)

    @property
    def identity(self) -> dict[str, Any]:
        """What determines the answers of given weights, machine and threads aside."""
        return {
            "sha256": sha256_of(self.tasks),
            "lm_eval": version("lm_eval"),
            "limit": self.limit,
            "seed": SEED,
            "max_new_tokens": MAX_NEW_TOKENS,
        }


@runtime_checkable
class _Questions(Protocol):
    """A benchmark whose tasks are questions."""

    def question(self, task_id: str) -> Question: ...


@dataclass(frozen=True, slots=True)
class _Sitting:
    """One examination of one set of weights: where its record is, what it is, and how to get the weights."""

    path: Path
    identity: Mapping[str, Any]
    policy: Callable[[], Policy]


def capability_of_run(
    folder: Path,
    *,
    questions: Sequence[Question] | None = None,
    limit: int = LIMIT,
    update: int | None = None,
    threads: int = 1,
    device: str = "auto",
    report: Report = lambda task, done, total: None,
) -> dict[str, Any]:
    """Examine a run's starting weights and one of its checkpoints with lm-eval.

    The first goes to the study's folder, as all its runs share it, the second to the run's. What is there already
    with the same identity is read, not made again.

    Args:
        folder: the run's.
        questions: closed-book questions; by default the run's evaluation split, or none where it has no questions.
        limit: questions of each dataset, where they are the run's own.
        update: which checkpoint; by default the last one.
        threads: torch threads.
        device: as on the command line.
        report: told how far it is.

    Returns:
        The two summaries, as `before` and `after`.

    Raises:
        UserError: no run there, no such checkpoint, or the weights that it started from have changed.
        EnvError: the questions cannot be read.
    """
    run = manifest.read(folder)
    if run is None:
        raise UserError(f"{folder} holds no run (it has no {manifest.NAME}); `stepcredit runs` lists runs")
    source = checkpoint.find(folder, update)
    asked = questions_of(run.spec, limit) if questions is None else questions
    examination = Examination.of(asked, limit)
    where = resolve(device, preset_named(run.spec.model).device)
    switch_on(threads, where)
    before = _before(folder, run, examination, where)
    after = _after(folder, run, source, examination, where)
    return {"before": _sit(before, examination, report), "after": _sit(after, examination, report)}


def questions_of(spec: RunSpec, limit: int) -> list[Question]:
    """The first `limit` questions of each dataset in a seeded permutation of the run's evaluation split.

    None where the run's benchmark has no questions.

    Raises:
        EnvError: unknown suite or split, or unusable data.
    """
    benchmark = load_benchmark(spec.benchmark, spec.suite, spec.env_options)
    if not isinstance(benchmark, _Questions):
        return []
    panel = benchmark.panel(spec.evaluation.split).stratified(limit, SEED)
    return [benchmark.question(task.id) for task in panel.tasks]


def _before(folder: Path, run: Manifest, examination: Examination, device: str) -> _Sitting:
    weights, asked = run.policy.weights_sha256, examination.identity
    path = folder.parent / FOLDER / f"before-{weights[:12]}-{asked['sha256'][:12]}.parquet"
    identity = {"phase": "before", "update": 0, "weights_sha256": weights, "examination": asked}
    return _Sitting(path, identity, lambda: _warm_start(run, device))


def _after(folder: Path, run: Manifest, source: Path, examination: Examination, device: str) -> _Sitting:
    update = checkpoint.update_of(source)
    identity = {
        "phase": "after",
        "update": update,
        "cell": run.cell,
        "spec_sha256": run.spec_sha256,
        "checkpoint_sha256": files.sha256_of(source),
        "started_from": run.policy.weights_sha256,
        "examination": examination.identity,
    }
    return _Sitting(folder / FOLDER / f"after-u{update}.parquet", identity, lambda: _trained(run, source, device))


def _warm_start(run: Manifest, device: str) -> Policy:
    spec = run.spec
    benchmark = load_benchmark(spec.benchmark, spec.suite, spec.env_options)
    policy = load_policy(spec.model, benchmark, device, thinking=spec.rollout.thinking)
    found = weights_sha256(policy.model)
    if found != run.policy.weights_sha256:
        raise UserError(
            f"policy {spec.model!r} has weights {found[:12]} now, but {run.cell} started from "
            f"{run.policy.weights_sha256[:12]}; restore them, or train the run again"
        )
    return policy


def _trained(run: Manifest, source: Path, device: str) -> Policy:
    policy = _warm_start(run, device)
    _, weights = checkpoint.load(source, run.spec_sha256)
    take_over(policy.model, weights.model, run.spec.optim.rank)
    return policy


def _sit(sitting: _Sitting, examination: Examination, report: Report) -> dict[str, Any]:
    """The sitting's summary; read where it is there already."""
    record = sitting.path.with_suffix(".json")
    if record.exists():
        summary = files.read_json(record)
        if sitting.identity.items() <= summary.items() and summary["sha256"] == files.sha256_of(sitting.path):
            return summary
    policy = sitting.policy()
    with tempfile.TemporaryDirectory() as scratch:
        answers = examine(policy.model, policy.tokenizer, examination.tasks, Path(scratch), report)
    files.make_folder(sitting.path.parent)
    _write(sitting, answers)
    digest = files.sha256_of(sitting.path)
    summary = {**sitting.identity, "tasks": _means(answers), "file": sitting.path.name, "sha256": digest}
    files.write_json(record, summary)
    return summary


def _write(sitting: _Sitting, answers: Sequence[Answer]) -> None:
    common = {"phase": sitting.identity["phase"], "update": sitting.identity["update"]}
    table = pa.Table.from_pylist([common | asdict(answer) for answer in answers], schema=_SCHEMA)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", compression_level=9, version="2.6", store_schema=False)
    files.write_bytes(sitting.path, buffer.getvalue())


def _means(answers: Sequence[Answer]) -> dict[str, dict[str, float]]:
    """Each task's number of examples and the mean of each of its metrics."""
    values: dict[str, dict[str, list[float]]] = {}
    for answer in answers:
        task = values.setdefault(f"{answer.suite}-{answer.subset}", {})
        task.setdefault(answer.metric, []).append(answer.value)
    return {
        task: {"n": len(next(iter(metrics.values())))} | {name: mean_exact(of) for name, of in metrics.items()}
        for task, metrics in values.items()
    }

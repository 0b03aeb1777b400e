"""Another policy as teacher: a preset, a policy's folder or a run's, with the student's vocabulary."""

from pathlib import Path

import pytest

from stepcredit.envs import load_benchmark
from stepcredit.harness.errors import UserError
from stepcredit.harness.model import policy
from stepcredit.harness.model.policy import load_policy, weights_sha256
from stepcredit.harness.record import files, manifest
from stepcredit.harness.record.cell import Cell
from stepcredit.harness.record.manifest import Manifest
from stepcredit.harness.run.learner import Learner
from stepcredit.harness.setup.parts import assemble
from stepcredit.harness.setup.settings import build_spec
from stepcredit.harness.setup.teacher import load_teacher
from stepcredit.harness.spec import RunSpec
from stepcredit.methods.contract import MethodError
from tests.harness.cells import run_here, small_spec

ALFWORLD = load_benchmark("alfworld", "mini")
STUDENT = load_policy("tiny", ALFWORLD)
POLICIES = Path(policy.__file__).parents[1] / "policies"
TAUGHT = ("method_options.teacher=checkpoint", "method_options.hindsight=none")


def trained(study: Path, spec: RunSpec) -> Manifest:
    run_here(study, spec.model_dump(mode="json"))
    found = manifest.read(Cell(study, spec).folder)
    assert found is not None
    return found


@pytest.mark.parametrize("name", ["tiny", str(POLICIES / "tiny")])
def test_presets_and_folders_of_policies_teach(name: str) -> None:
    teacher = load_teacher(name, STUDENT, ALFWORLD)
    assert weights_sha256(teacher.model) == weights_sha256(STUDENT.model)
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())


def test_a_run_teaches_with_its_last_weights_and_is_named_in_the_manifest(tmp_path: Path) -> None:
    spec = small_spec("updates=1", "optim.lr=0.01", method="grpo")
    first, folder = trained(tmp_path, spec), Cell(tmp_path, spec).folder
    assert first.final_weights_sha256 != first.policy.weights_sha256
    assert first.teacher is None
    assert "teacher" not in files.read_json(folder / "manifest.json"), "as in manifests of before there were teachers"
    teacher = load_teacher(str(folder), STUDENT, ALFWORLD)
    assert weights_sha256(teacher.model) == first.final_weights_sha256
    second = trained(tmp_path, small_spec("updates=1", *TAUGHT, f"method_options.checkpoint={folder}", method="opd"))
    assert second.teacher is not None
    assert second.teacher.weights_sha256 == first.final_weights_sha256
    assert second.teacher.provenance == f"run {first.cell} of spec {first.spec_sha256}, update 1"
    assert second.final_weights_sha256 != second.policy.weights_sha256


def test_another_vocabulary_is_refused_with_the_first_token_that_differs() -> None:
    with pytest.raises(UserError, match=r"another vocabulary than 'tiny': token \d+ is '.*', not '.*' \(\d+ tokens"):
        load_teacher(str(POLICIES / "tiny-searchqa"), STUDENT, ALFWORLD)


def test_a_run_on_another_benchmark_is_refused_for_its_vocabulary(tmp_path: Path) -> None:
    overrides = ("updates=0", "evaluation.size=1")
    spec = build_spec(model="tiny", benchmark="searchqa", suite=None, method="grpo", seed=0, overrides=overrides)
    trained(tmp_path, spec)
    with pytest.raises(UserError, match="has another vocabulary than 'tiny': token"):
        load_teacher(str(Cell(tmp_path, spec).folder), STUDENT, ALFWORLD)


def test_a_run_whose_teacher_has_changed_is_not_continued(tmp_path: Path) -> None:
    spec = small_spec("updates=0", *TAUGHT, "method_options.checkpoint=tiny", method="opd")
    found = trained(tmp_path, spec)
    inputs = assemble(spec, "cpu").inputs
    assert found.inputs == inputs
    assert inputs.teacher is not None
    other = inputs.model_copy(update={"teacher": inputs.teacher.model_copy(update={"weights_sha256": "0" * 64})})
    for changed in (other, inputs.model_copy(update={"teacher": None})):
        with pytest.raises(UserError, match=r"started from other weights or data \(teacher\."):
            manifest.require_same_inputs(found, changed, tmp_path)


@pytest.mark.parametrize(
    ("overrides", "method", "copies"),
    [
        ((), "grpo", 0),
        (("objective.kl=0.1",), "stepopsd", 2),
        (("objective.kl=0.1", *TAUGHT, "method_options.checkpoint=tiny"), "opd", 2),
    ],
)
def test_each_further_policy_is_one_more_copy_of_the_weights(
    overrides: tuple[str, ...], method: str, copies: int
) -> None:
    spec = small_spec(*overrides, method=method)
    assert Learner.of(spec, assemble(spec, "cpu")).kept.nbytes == copies * 4 * STUDENT.parameters


def test_nobody_by_that_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is no run's folder, and as a model: there is no folder"):
        load_teacher(str(tmp_path / "nobody"), STUDENT, ALFWORLD)


def test_the_options_need_each_other() -> None:
    with pytest.raises(MethodError, match="teacher 'checkpoint' needs the option checkpoint"):
        small_spec("method_options.teacher=checkpoint", method="opd")
    with pytest.raises(MethodError, match="option checkpoint has no effect with teacher 'initial'"):
        small_spec("method_options.checkpoint=tiny", method="opd")

"""Another policy as teacher: a preset, a policy's folder or a run's, with the student's vocabulary."""

from pathlib import Path

import pytest

from envs import load_benchmark
from harness import manifest, policy
from harness.cell import Cell
from harness.errors import UserError
from harness.manifest import Manifest
from harness.policy import load_policy, weights_sha256
from harness.spec import RunSpec
from harness.teacher import load_teacher
from methods.contract import MethodError
from tests.harness.cells import run_here, small_spec

ALFWORLD = load_benchmark("alfworld", "mini")
STUDENT = load_policy("tiny", ALFWORLD)
POLICIES = Path(policy.__file__).parent / "policies"
TAUGHT = ("method_options.teacher=checkpoint", "method_options.hindsight=none")


def trained(study: Path, spec: RunSpec) -> Manifest:
    run_here(study, spec.model_dump(mode="json"))
    found = manifest.read(Cell(study, spec).folder)
    assert found is not None
    return found


@pytest.mark.parametrize("name", ["tiny", str(POLICIES / "tiny")])
def test_presets_and_folders_of_policies_teach(name: str) -> None:
    teacher = load_teacher(name, STUDENT, ALFWORLD, "cpu")
    assert weights_sha256(teacher.model) == weights_sha256(STUDENT.model)
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())


def test_a_run_teaches_with_its_last_weights_and_is_named_in_the_manifest(tmp_path: Path) -> None:
    spec = small_spec("updates=1", "optim.lr=0.01", method="grpo")
    first, folder = trained(tmp_path, spec), Cell(tmp_path, spec).folder
    assert first.final_weights_sha256 != first.policy.weights_sha256
    assert first.teacher is None
    teacher = load_teacher(str(folder), STUDENT, ALFWORLD, "cpu")
    assert weights_sha256(teacher.model) == first.final_weights_sha256
    second = trained(tmp_path, small_spec("updates=1", *TAUGHT, f"method_options.checkpoint={folder}", method="opd"))
    assert second.teacher is not None
    assert second.teacher.weights_sha256 == first.final_weights_sha256
    assert second.final_weights_sha256 != second.policy.weights_sha256


def test_another_vocabulary_is_refused_with_the_first_token_that_differs() -> None:
    with pytest.raises(UserError, match=r"another vocabulary than 'tiny': token \d+ is '.*', not '.*' \(\d+ tokens"):
        load_teacher(str(POLICIES / "tiny-searchqa"), STUDENT, ALFWORLD, "cpu")


def test_nobody_by_that_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is neither a preset .* nor the folder of a run or a policy"):
        load_teacher(str(tmp_path / "nobody"), STUDENT, ALFWORLD, "cpu")


def test_the_options_need_each_other() -> None:
    for option in ("method_options.teacher=checkpoint", "method_options.checkpoint=tiny"):
        with pytest.raises(MethodError, match="teacher 'checkpoint' and the option checkpoint need each other"):
            small_spec(option, method="opd")

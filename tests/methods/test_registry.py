"""Names and options of methods: ours, other packages', and wrong ones."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from methods.checks import require_valid
from methods.contract import MethodError
from methods.registry import METHODS, build, method_named, registered, resolved_options
from tests.methods.support import HashRescorer, one_word_group

OUTSIDE = Path(__file__).parent / "outside"
README = Path(__file__).parents[2] / "README.md"


def register(monkeypatch: pytest.MonkeyPatch, folder: Path, package: str, code: str, **points: str) -> None:
    """What pip leaves behind when it installs a package: its module, and its metadata."""
    metadata = folder / f"{package}-1.0.dist-info"
    metadata.mkdir()
    (folder / f"{package}.py").write_text(code)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [f"{name} = {package}:{target}" for name, target in points.items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[stepcredit.methods]", *lines]))
    monkeypatch.syspath_prepend(str(folder))


def test_ours_by_name() -> None:
    assert {"grpo", "opd", "stepopsd"} <= METHODS.keys()
    assert [build(name, {}).name for name in METHODS] == list(METHODS)
    assert method_named("grpo") is METHODS["grpo"]


def test_options_are_completed_and_reach_the_method() -> None:
    resolved = resolved_options("stepopsd", {"alpha_clip": 0.1, "teacher": "live_actor"})
    assert (resolved["alpha_clip"], resolved["lambda_mix"], resolved["decay_updates"]) == (0.1, 0.2, 50)
    assert build("stepopsd", resolved).options() == resolved
    assert build("stepopsd", resolved).needs.stale_refresh is None
    assert build("stepopsd", {"refresh": 7}).needs.stale_refresh == 7
    assert resolved_options("grpo", {}) == {"std": True, "eps": 1e-6}


@pytest.mark.parametrize(
    ("name", "options", "complaint"),
    [
        ("stepopds", {}, "unknown method 'stepopds': did you mean 'stepopsd'\\? known methods are grpo, "),
        ("ppo", {}, "unknown method 'ppo': "),
        ("grpo", {"sdt": 1}, "method 'grpo' has no option 'sdt': did you mean 'std'\\? its options are std, eps$"),
        ("stepopsd", {"alpha_clip": 1}, "option 'alpha_clip' of method 'stepopsd': input should be less than 1"),
        ("stepopsd", {"lambda_mix": -0.1}, "'lambda_mix' .*greater than or equal to 0, but the value is -0.1"),
        ("stepopsd", {"weight": "tanh"}, "input should be 'sigmoid' or 'exp', but the value is 'tanh'"),
        ("opd", {"weight": float("nan")}, "option 'weight' of method 'opd': .*finite.*but the value is nan"),
        ("opd", {"teacher": "llama"}, "input should be 'live', 'stale' or 'checkpoint', but the value is 'llama'"),
    ],
)
def test_wrong_names_and_options_are_one_sentence(name: str, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(MethodError, match=complaint) as caught:
        build(name, options)
    assert "\n" not in str(caught.value)


def test_installed_package_registers_a_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    shutil.copytree(OUTSIDE, source, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True, capture_output=True)
    monkeypatch.syspath_prepend(str(target))
    assert list(registered()) == [*METHODS, "late_credit"]
    method, group = build("late_credit", {"gamma": 0.5}), one_word_group(True, False)
    credits = method.credit(group, HashRescorer(), 0)
    require_valid(method, group, credits)
    # Rewards 1 0: A = 0.5 / (sqrt(0.5) + 1e-6); half of it in the first of two turns of four tokens.
    assert credits[0].advantage_T.tolist() == pytest.approx([0.353552891] * 4 + [0.707105781] * 4)
    with pytest.raises(MethodError, match="did you mean 'late_credit'"):
        build("late_credits", {})


def test_the_readmes_method_works_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = README.read_text().partition("## Adding a method")[2]
    code = section.partition("```python\n")[2].partition("```")[0]
    register(monkeypatch, tmp_path, "reinforce", code, reinforce="Reinforce")
    method, group = build("reinforce", {}), one_word_group(True, False)
    credits = method.credit(group, HashRescorer(), 0)
    require_valid(method, group, credits)
    assert [credit.advantage_T.tolist() for credit in credits] == [[0.5] * 8, [-0.5] * 8]


WHOLE = """
from methods.grpo import Grpo
class Taken(Grpo): name = "taken"
class Grpo2(Grpo): name = "grpo"
class Incomplete(Grpo.__mro__[1]): name = "incomplete"
thing = 3
"""


@pytest.mark.parametrize(
    ("points", "complaint"),
    [
        ({"grpo": "Grpo2"}, "'odd:Grpo2' registers the method 'grpo', but that name is taken by 'methods.grpo'"),
        ({"gone": "Missing"}, "method 'gone' of entry point 'odd:Missing' cannot be loaded: .*'Missing'"),
        ({"thing": "thing"}, "method 'thing' .* is not a subclass of methods.contract.Method"),
        ({"other": "Taken"}, "method 'other' .* calls itself 'taken'"),
        ({"incomplete": "Incomplete"}, "method 'incomplete' .* lacks paper, traits, credit"),
    ],
)
def test_unfit_entry_points_are_refused(
    points: dict[str, str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "odd", raising=False)
    register(monkeypatch, tmp_path, "odd", WHOLE, **points)
    with pytest.raises(MethodError, match=complaint):
        registered()
    with pytest.raises(MethodError, match=complaint):
        build(next(iter(points)), {})


def test_two_packages_with_one_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("first", "second"):
        register(monkeypatch, tmp_path, package, "", same="Same")
    with pytest.raises(MethodError, match=r"'second:Same' registers .* 'same', but that name is taken by 'first:Same'"):
        registered()


def test_a_broken_package_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, tmp_path, "broken", "import no_such_module", broken="Broken")
    assert build("grpo", {}).name == "grpo"
    with pytest.raises(MethodError, match=r"method 'broken' .* cannot be loaded: No module named 'no_such_module'"):
        build("broken", {})

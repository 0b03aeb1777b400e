"""Names and options of methods: ours, other packages', and wrong ones."""

import sys
from pathlib import Path
from typing import Any

import pytest

from stepcredit.harness.cli.app import run
from stepcredit.methods.contract import MethodError
from stepcredit.methods.registry import METHODS, build, method_named, registered, resolved_options


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
        (
            "grpo",
            {"sdt": 1},
            "has no option 'sdt': did you mean 'std'\\? its options are std, eps, rows$",
        ),
        ("stepopsd", {"alpha_clip": 1}, "option 'alpha_clip' of method 'stepopsd': input should be less than 1"),
        ("stepopsd", {"lambda_mix": -0.1}, "'lambda_mix' .*greater than or equal to 0, but the value is -0.1"),
        ("stepopsd", {"weight": "tanh"}, "input should be 'sigmoid' or 'exp', but the value is 'tanh'"),
        ("opd", {"weight": float("nan")}, "option 'weight' of method 'opd': .*finite.*but the value is nan"),
        ("opd", {"teacher": "llama"}, "input should be 'live', .* or 'checkpoint', but the value is 'llama'"),
    ],
)
def test_wrong_names_and_options_are_one_sentence(name: str, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(MethodError, match=complaint) as caught:
        build(name, options)
    assert "\n" not in str(caught.value)


OUTSIDE = """
from stepcredit.methods.grpo import Grpo
class Outside(Grpo): name = "outside"
"""


def test_an_installed_package_registers_a_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "foreign", raising=False)
    register(monkeypatch, tmp_path, "foreign", OUTSIDE, outside="Outside")
    assert list(registered()) == [*METHODS, "outside"]
    assert resolved_options("outside", {"std": False}) == {"std": False, "eps": 1e-6}
    with pytest.raises(MethodError, match="did you mean 'outside'"):
        build("outsides", {})


WHOLE = """
from stepcredit.methods.grpo import Grpo
class Taken(Grpo): name = "taken"
class Grpo2(Grpo): name = "grpo"
class Incomplete(Grpo.__mro__[1]): name = "incomplete"
thing = 3
"""


@pytest.mark.parametrize(
    ("points", "complaint"),
    [
        ({"grpo": "Grpo2"}, "'odd:Grpo2' registers the method 'grpo', .* is taken by 'stepcredit.methods.grpo'"),
        ({"gone": "Missing"}, "method 'gone' of entry point 'odd:Missing' cannot be loaded: .*'Missing'"),
        ({"thing": "thing"}, "method 'thing' .* is not a subclass of stepcredit.methods.contract.Method"),
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


def test_the_list_of_methods_fits_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["methods"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    words = " ".join(out.split())
    for name, method in METHODS.items():
        assert f"{name} paper {method.paper} traits " in words
    assert "tilt=alpha_clip, mixing=lambda_mix, step_budget=budget" in words
    assert "alpha_clip=0.2, lambda_mix=0.2, decay_updates=50" in words

"""Studies that a file describes: what they make, what they refuse, and that they go on where they stopped."""

import json
from pathlib import Path

import pytest

from stepcredit.harness.cli.app import run
from stepcredit.harness.errors import UserError
from stepcredit.harness.study.file import credit_studies, parse, shipped, text_of, variants

SMALL = """
name = "small"
seeds = [0, 1]
settings = { updates = 1, "rollout.tasks" = 2, "rollout.group" = 2, "evaluation.size" = 2, "evaluation.every" = 1 }

[[parts]]
benchmark = "diagnostic"
suite = "bandit_tree"
methods = ["grpo", "stepopsd"]
per_method = { stepopsd = { "method_options.alpha_clip" = 0.1 } }
axes = { "optim.lr" = [0.001, 0.002] }
"""


def test_axes_are_crossed_and_settings_lie_over_one_another() -> None:
    found = variants(parse(SMALL, "small"))
    assert [variant.name for variant in found] == [f"diagnostic-bandit_tree/lr={lr}" for lr in ("0.001", "0.002")]
    assert [(spec.method, spec.seed) for spec in found[1].specs] == [
        ("grpo", 0),
        ("stepopsd", 0),
        ("grpo", 1),
        ("stepopsd", 1),
    ]
    grpo, stepopsd, *_ = found[1].specs
    assert (grpo.optim.lr, grpo.updates, stepopsd.method_options["alpha_clip"]) == (0.002, 1, 0.1)


@pytest.mark.parametrize("name", shipped())
def test_shipped_studies_can_be_made(name: str) -> None:
    described = parse(text_of(name), name)
    assert described.name == name
    assert variants(described) or credit_studies(described)
    assert len({spec.sha256 for variant in variants(described) for spec in variant.specs}) == sum(
        len(variant.specs) for variant in variants(described)
    )


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("seeds = [0, 1]", "seeds = []", r"small\.toml: seeds: tuple should have at least 1 item"),
        ("seeds = [0, 1]", "seeds = [true]", r"seeds\.0: input should be a valid integer, but the value is True"),
        ("seeds = [0, 1]", "seeds = [-1]", r"seeds\.0: .*greater than or equal to 0, but the value is -1"),
        ("seeds", "sedes", "sedes is unknown, known there are name, model, seeds"),
        ('name = "small"', 'name = "My Study"', "name: string should match .*, but the value is 'My Study'"),
        ("[0.001, 0.002]", "[]", r"parts\.0\.axes\.optim\.lr has no values; give it some, or leave it out"),
        ("axes", "axis", r"parts\.0\.axis is unknown, known there are benchmark, .*, axes; see"),
        ("updates = 1,", "updates = inf,", "but the value is inf"),
        (
            "[[parts]]",
            '[[parts]]\nsettings = { "optim.lr" = 1 }',
            r"parts\.0\.settings sets optim\.lr, which is",
        ),
        (
            '"method_options.alpha_clip"',
            '"optim.lr"',
            r"per_method\.stepopsd sets optim\.lr, which is an axis too",
        ),
        ("stepopsd = {", "opd = {", "per_method names 'opd', which is not among its methods"),
        ('name = "small"', "name = ", "is no TOML"),
        ('"optim.lr"', '"optim.rate"', "optim.rate"),
    ],
)
def test_bad_files(old: str, new: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        variants(parse(SMALL.replace(old, new, 1), "small.toml"))


def test_parts_that_make_one_variant_share_its_folder() -> None:
    again = SMALL[SMALL.index("[[parts]]") :].replace("per_method", "# per_method")
    other = variants(parse(SMALL + again.replace('"grpo", "stepopsd"', '"opd"'), "small"))
    assert len(other) == 2
    assert {spec.method for spec in other[0].specs} == {"grpo", "stepopsd", "opd"}
    with pytest.raises(UserError, match=r"asks twice for grpo, seed 0, in diagnostic-bandit_tree/lr=0\.001"):
        variants(parse(SMALL + again, "small"))


def test_a_shipped_study_is_the_beginning_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["study", "show", "two-knob"]) == 0
    shown = capsys.readouterr().out
    assert run(["study", "show", "two-knob", "--out", str(tmp_path / "mine.toml")]) == 0
    assert (tmp_path / "mine.toml").read_text() == shown
    assert len(variants(parse(shown, "mine"))) == 18
    (tmp_path / "mine.toml").write_text("changed since")
    assert run(["study", "show", "two-knob", "--out", str(tmp_path / "mine.toml")]) == 2
    assert "mine.toml exists already, and may have been changed" in capsys.readouterr().err
    assert (tmp_path / "mine.toml").read_text() == "changed since"


def test_status_of_a_study_whose_folder_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "small.toml").write_text(SMALL)
    assert run(["study", "status", str(tmp_path / "small.toml"), "--out", str(tmp_path / "small.toml")]) == 2
    assert "small.toml is a file; give the study's folder with --out" in capsys.readouterr().err


def test_a_name_that_is_no_study(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["study", "run", "ablation"]) == 2
    said = capsys.readouterr().err
    known = "ablations, credit, methods, reproduce, teachers, two-knob"
    assert f"'ablation' is neither a study that comes with stepcredit ({known}) nor a file" in said


def test_runs_of_all_variants_of_a_study_take_turns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "small.toml", tmp_path / "out"
    file.write_text(SMALL)
    assert run(["study", "status", str(file), "--out", str(out), "--json"]) == 0
    before = json.loads(capsys.readouterr().out)
    assert [(row["complete"], row["hours_left"]) for row in before] == [(0, None), (0, None)]
    assert run(["study", "run", str(file), "--out", str(out), "--jobs", "2"]) == 0
    said = capsys.readouterr()
    assert "0 of 8 runs complete; hours left, one run at a time: unknown" in said.out
    assert "0 of 8 runs complete, 0 to be resumed, 8 to be started" in said.err
    for variant in out.glob("diagnostic-bandit_tree/lr=*"):
        assert f"{variant.name}/diagnostic-bandit_tree-tiny-" in said.err
        assert (variant / "study.json").is_file()
    assert len(list(out.glob("diagnostic-bandit_tree/lr=*/diagnostic-bandit_tree-tiny-*/manifest.json"))) == 8
    assert run(["study", "status", str(file), "--out", str(out)]) == 0
    assert "8 of 8 runs complete; hours left, one run at a time: 0.0" in capsys.readouterr().out
    assert run(["study", "run", str(file), "--out", str(out)]) == 0
    assert "8 of 8 runs complete" in capsys.readouterr().err
    origin = (out / "study.json").read_bytes()
    file.write_text(SMALL.replace("updates = 1", "updates = 2"))
    for command in ("status", "run"):
        assert (
            run(["study", command, str(file), "--out", str(out), *(["--jobs", "1"] if command == "run" else [])]) == 2
        )
        assert "was written by another spec (updates: 1 there, 2 here)" in capsys.readouterr().err
    assert (out / "study.json").read_bytes() == origin, "a command that was refused made nothing of it"


CREDIT = """
name = "held"
seeds = [3]
settings = { "rollout.group" = 4 }

[[credit]]
benchmark = "diagnostic"
suite = "critical_step"
methods = ["grpo", "opd"]
arms = ["peer_traj", "foreign"]
tasks = 2
precision = 0.2
"""


def test_a_study_of_credit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "held.toml", tmp_path / "out"
    file.write_text(CREDIT)
    name = "credit/diagnostic-critical_step-tiny"
    (spec,) = credit_studies(parse(CREDIT, "held")).values()
    assert (spec.seed, spec.run.rollout.group, spec.tasks) == (3, 4, 2)
    assert run(["study", "run", str(file), "--out", str(out)]) == 0
    assert "this policy can" in capsys.readouterr().out
    before = (out / name / "study.json").read_bytes()
    assert run(["study", "run", str(file), "--out", str(out)]) == 0
    assert "this policy can" not in capsys.readouterr().out, "it was complete"
    assert (out / name / "study.json").read_bytes() == before
    assert run(["study", "status", str(file), "--out", str(out), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row.pop("stopped"), row.pop("with_notes")) == (0, 0)
    assert row == {"variant": name, "runs": 1, "complete": 1, "hours_left": 0.0}


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('"foreign"]', '"stranger"]', r"credit\.0\.arms\.1: input should be"),
        ("tasks = 2", "tasks = 0", r"credit\.0\.tasks: input should be greater than or equal to 1"),
        (CREDIT[CREDIT.index("[[credit]]") :], "", r"has neither \[\[parts\]\] nor \[\[credit\]\]"),
        (
            "[[credit]]",
            "[[credit]]\nbenchmark = 'diagnostic'\nsuite = 'critical_step'\n[[credit]]",
            "asks twice for credit/",
        ),
        ("seeds = [3]", "seeds = [3, 4]", r"seeds are \[3, 4\], but a study of credit has one"),
    ],
)
def test_bad_studies_of_credit(old: str, new: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        credit_studies(parse(CREDIT.replace(old, new, 1), "held.toml"))


@pytest.mark.parametrize(("words", "idle"), [(["--track", "wandb"], "--track"), (["--processes", "2"], "--processes")])
def test_options_of_training_have_no_effect_on_credit(
    words: list[str], idle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("stepcredit.harness.cli.study.resources", lambda *arguments, **more: None)
    (tmp_path / "held.toml").write_text(CREDIT)
    assert run(["study", "run", str(tmp_path / "held.toml"), "--out", str(tmp_path / "out"), *words]) == 2
    assert f"{idle} has no effect on a study of credit alone" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

"""The report of a folder of studies: arms, knobs, credit studies."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stepcredit.paper.build import build
from stepcredit.paper.drift import Drift, drift_of
from stepcredit.paper.errors import PaperError
from stepcredit.paper.knobs import knob_sentences, knob_tables
from stepcredit.paper.results import load_study
from stepcredit.paper.tables import Ranged, Score
from stepcredit.paper.variants import is_collection, load_collection
from tests.paper.support import episode, save_manifest, tasks, write_run, write_study

PANEL = 12


def with_probes(run: Path, change: Sequence[float]) -> None:
    """Turns of three tasks, two each, whose log-probabilities changed by so much."""
    rows = [
        {"task_id": f"t{number // 2}", "turn": number % 2, "before": -1.0, "after": -1.0 + own}
        for number, own in enumerate(change)
    ]
    pd.DataFrame(rows).to_parquet(run / "probes.parquet")
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["files"]["probes.parquet"] = hashlib.sha256((run / "probes.parquet").read_bytes()).hexdigest()
    save_manifest(run, manifest)


def outcomes(successes: Mapping[int, int], seed: int) -> list[dict[str, Any]]:
    """At each update the first so many tasks succeed."""
    return [
        episode(task, update=update, seed=seed, success=place < count)
        for update, count in successes.items()
        for place, task in enumerate(tasks(PANEL))
    ]


def of_suite(run: Path, suite: str) -> None:
    """Let it be of that diagnostic suite."""
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["spec"] |= {"benchmark": "diagnostic", "suite": suite}
    save_manifest(run, manifest)


def write_arm(folder: Path, method: str, after: Sequence[int], moved: float = 0.0) -> None:
    """A run a seed that begins at 6 of 12 and ends at so many."""
    for seed, count in enumerate(after):
        run = write_run(folder, method, seed, panel_size=PANEL, episodes=outcomes({0: 6, 4: count}, seed))
        with_probes(run, [-moved - 0.1 * seed, moved, -moved, moved, -moved, -moved])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "ablations"
    write_arm(root / "alfworld-mini", "grpo", (7, 8, 9), moved=0.5)
    write_arm(root / "alfworld-mini" / "hindsight=peer_traj", "stepopsd", (9, 10, 11), moved=0.5)
    write_arm(root / "alfworld-mini" / "hindsight=foreign", "stepopsd", (7, 7, 7), moved=1.0)
    return root


def table(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / "paper" / "tables" / f"{name}.csv")


def test_a_folder_of_studies_is_known(folder: Path, tmp_path: Path) -> None:
    assert is_collection(folder)
    assert not is_collection(write_study(tmp_path / "study", seeds=1))
    assert not is_collection(tmp_path / "nowhere")


def test_arms_are_compared_on_seeds_and_tasks(folder: Path) -> None:
    build(folder, folder / "paper")
    rows = table(folder, "arms-alfworld-mini").set_index(["Method", "Hindsight"])
    assert rows.loc[("StepOPSD", "peer_traj"), "After"] == pytest.approx(10 / 12)
    assert rows.loc[("StepOPSD", "foreign"), "Minus GRPO"] == pytest.approx(-1 / 12)
    assert np.isnan(rows.loc[("GRPO", "—"), "Minus GRPO"])
    contrast = table(folder, "contrasts-alfworld-mini").iloc[0]
    assert contrast["Peer − placebo"] == pytest.approx(3 / 12)
    assert contrast["Peer − placebo low"] > 0
    report = (folder / "paper" / "REPORT.md").read_text()
    assert (
        "with a peer's block StepOPSD ends +25.0 points [4.3, 45.7] (n=36) from where it ends with a placebo's"
        in report
    )
    assert "(Holm p 0.035): what the block tells matters" in report
    assert "figures/arms-alfworld-mini.png" in report


def test_the_lesser_p_of_two_arms_is_doubled(folder: Path) -> None:
    found = load_collection(folder)
    beyond = [cell.beyond(found.baseline("alfworld-mini")) for cell in found.cells("alfworld-mini", ("hindsight",))]
    placebo, peer = [own.p_value for own in beyond if own is not None and own.p_value is not None]
    assert peer < placebo / 2
    build(folder, folder / "paper")
    rows = table(folder, "arms-alfworld-mini")
    assert rows["p (Holm)"].tolist()[1:] == pytest.approx([placebo, 2 * peer], abs=5e-4)


def test_how_far_and_how_alike_policies_moved(folder: Path) -> None:
    (grpo,) = load_collection(folder).cells("alfworld-mini", ())
    drift = drift_of(grpo.runs)
    assert drift is not None
    assert drift.by_seed == pytest.approx({0: 1 / 6, 1: 1.1 / 6, 2: 1.2 / 6})
    assert drift.moved.value == pytest.approx(1.1 / 6)
    changes = np.array([[-0.5 - 0.1 * seed, 0.5, -0.5, 0.5, -0.5, -0.5] for seed in range(3)])
    expected = np.corrcoef(changes)[np.triu_indices(3, 1)].mean()
    assert drift.alike.value == pytest.approx(expected)
    assert drift.within(drift) == 0.0
    other = Drift({0: 1 / 6 + 0.3, 1: 1.1 / 6 + 0.3, 2: 1.2 / 6 + 0.3}, Ranged(0.0))
    assert drift.within(other) == pytest.approx(0.3)
    assert drift.p_alike < 0.05 < drift.alike.low


def test_a_divergence_has_no_interval_below_zero() -> None:
    moved = Drift({0: 0.05, 1: 0.5}, Ranged(0.0)).moved
    assert (moved.value, moved.low) == (pytest.approx(0.275), 0.0)
    assert moved.high > 1.0


def test_runs_that_kept_no_turns_have_not_been_seen_to_move(tmp_path: Path) -> None:
    assert drift_of(load_study(write_study(tmp_path / "study", seeds=2)).runs) is None


def test_causeless_tasks_have_their_own_sentence(tmp_path: Path) -> None:
    root = tmp_path / "null"
    for where, method in (("", "grpo"), ("hindsight=self", "opd")):
        for seed in range(2):
            path = write_run(root / "diagnostic-null_causal" / where, method, seed, panel_size=PANEL)
            of_suite(path, "null_causal")
            with_probes(path, [-0.2 - 0.01 * seed, 0.1, -0.3, 0.1, -0.4, 0.2])
    build(root, root / "paper")
    report = (root / "paper" / "REPORT.md").read_text()
    assert "no action has an effect, yet GRPO moves the policy by 0.08 [0.07, 0.09] nats a turn" in report
    assert "seeds move the policy the same way (Holm p below 0.05) under: OPD with self (+1.00" in report


def test_equal_results_give_equal_bytes(folder: Path, tmp_path: Path) -> None:
    first = {path.relative_to(folder / "paper"): path.read_bytes() for path in build(folder, folder / "paper")}
    again = {path.relative_to(tmp_path / "other"): path.read_bytes() for path in build(folder, tmp_path / "other")}
    assert first == again
    assert Path("paper.pdf") in first


def test_other_weights_are_refused_and_what_is_unfinished_is_said(folder: Path) -> None:
    write_run(folder / "alfworld-mini" / "hindsight=none", "opd", changes={"status": "running"}, panel_size=PANEL)
    build(folder, folder / "paper")
    assert "alfworld-mini/hindsight=none: no complete run" in (folder / "paper" / "REPORT.md").read_text()
    strange = {"policy": {"weights_sha256": "0" * 64}}
    write_run(folder / "alfworld-mini" / "hindsight=self", "opd", changes=strange, panel_size=PANEL)
    with pytest.raises(PaperError, match="have other panels, evaluations or weights"):
        build(folder, folder / "paper")


def write_knobs(root: Path) -> Path:
    """A larger clip is worse by one task of twelve a doubling; the best mixing is 0.2."""
    for step, clip in enumerate((0.05, 0.1, 0.2)):
        for share, bonus in ((0.05, 0), (0.2, 2), (0.5, 0)):
            write_arm(
                root / "alfworld-mini" / f"alpha_clip={clip}+lambda_mix={share}", "stepopsd", [8 - step + bonus] * 2
            )
    return root


@pytest.mark.parametrize(
    ("others", "told"),
    [
        ({0.05: (7, 7), 0.2: (9, 9)}, "is the same on 2 benchmarks: 0.2 on alfworld-mini and 0.2 on diagnostic-"),
        ({0.05: (9, 9), 0.2: (7, 7)}, "differs: 0.2 on alfworld-mini and 0.05 on diagnostic-critical_step."),
        ({0.05: (11, 8), 0.2: (7, 10)}, "has not been shown: 0.2 may be the best on all."),
    ],
)
def test_whether_benchmarks_want_different_mixing(tmp_path: Path, others: dict[float, list[int]], told: str) -> None:
    write_knobs(tmp_path)
    for share, after in others.items():
        folder = tmp_path / "diagnostic-critical_step" / f"alpha_clip=0.1+lambda_mix={share}"
        write_arm(folder, "stepopsd", after)
        for run in folder.iterdir():
            of_suite(run, "critical_step")
    *_, last = knob_sentences(load_collection(tmp_path))
    assert last.startswith("The best lambda_mix ")
    assert told in last


def test_two_knobs(tmp_path: Path) -> None:
    found = load_collection(write_knobs(tmp_path / "knobs"))
    (maps,) = knob_tables(found)
    assert [row[0] for row in maps.rows] == ["alpha_clip 0.05", "alpha_clip 0.1", "alpha_clip 0.2"]
    (_, middle, *_) = maps.rows[0][1:]
    assert isinstance(middle, Score)
    assert middle.estimate.mean == pytest.approx(10 / 12)
    slope, best = knob_sentences(found)
    assert "doubling alpha_clip changes success by −8.33" in slope
    assert "so that a smaller clip is better" in slope
    assert "the best lambda_mix is 0.2 with 75.0" in best
    assert "0.05 is −16.7 [−16.7, −16.7] (n=72) points from it; 0.5 is −16.7" in best
    written = {path.name for path in build(tmp_path / "knobs", tmp_path / "paper")}
    assert {"two_knob.png", "knobs-alfworld-mini.csv"} <= written
    assert (tmp_path / "paper" / "REPORT.md").read_text().startswith("# Variants of methods under identical seeds")


def number(value: float | None, reach: float = 0.1) -> dict[str, float | None]:
    return {
        "value": value,
        "low": None if value is None else value - reach,
        "high": None if value is None else value + reach,
    }


def write_credit(root: Path, suite: str = "critical_step") -> Path:
    folder = root / "credit" / f"diagnostic-{suite}-tiny"
    folder.mkdir(parents=True)
    rng, steps, credits = np.random.default_rng(0), [], []
    for step in range(40):
        place = {"task_id": f"t{step // 8}", "trajectory": step // 4 % 2, "step": step % 4}
        steps.append({**place, "mixed": True, "success": step % 8 < 4, "advantage": rng.normal()})
        credits += [
            {**place, "case": case, "credit": rng.normal(), "served": True} for case in ("grpo", "opd:peer_traj")
        ]
    pd.DataFrame(steps).to_parquet(folder / "steps.parquet")
    pd.DataFrame(credits).to_parquet(folder / "credits.parquet")
    shares = {
        name: number(0.5) for name in ("sign", "top", "idle", "leak", "explained", "thought", "refused", "parting")
    }
    rows = [
        {
            "case": "grpo",
            "trajectories": 10,
            **shares,
            "rank": number(None),
            "ceiling": None,
            "corrected": None,
            "p_rank": None,
        },
        {
            "case": "opd:peer_traj",
            "trajectories": 10,
            **shares,
            "rank": number(0.3),
            "ceiling": 0.6,
            "corrected": 0.5,
            "p_rank": 0.01,
        },
    ]
    found = {
        "verdict": "this policy cannot be shown to read: -0.10 [-0.20, +0.00]",
        "reads": number(-0.1),
        "told": number(2.0),
    }
    found |= {
        "beyond": {"opd": number(0.05), "rlsd": number(0.4)},
        "measured": rows,
        "gradients": [{"case": "grpo", "cosine": number(0.4), "noise": number(1.5)}],
        "choices": [{"arm": "self", "gap": number(0.9), "teacher": number(0.8), "student": number(0.6)}],
        "refused": [],
        "steps": 40,
        "stderr": 0.03,
    }
    run = {"model": "tiny", "benchmark": "diagnostic", "suite": suite}
    (folder / "study.json").write_text(json.dumps({"run": run, "tasks": 5, "seed": 0, "found": found}))
    return root


def test_credit_studies_are_told(tmp_path: Path) -> None:
    root = write_credit(tmp_path / "credit-alone")
    assert is_collection(root)
    names = {path.name for path in build(root, root / "paper")}
    study = "diagnostic-critical_step-tiny"
    assert {f"fidelity-{study}.md", f"leakage-{study}.tex", f"ranks-{study}.png", f"scatter-{study}.svg"} <= names
    report = (root / "paper" / "REPORT.md").read_text()
    assert "this policy cannot be shown to read: −0.10 [−0.20, +0.00]." in report.splitlines()[4]
    assert "credit ranks steps as they were worth under opd:peer_traj (+0.30 [0.20, 0.40]) (Holm, 5%)." in report
    assert (
        "the credit of rlsd (+0.40 [0.30, 0.50]) ranks steps better under a peer than under a placebo; that of opd "
        "(+0.05 [−0.05, 0.15]) ranks steps neither better nor worse"
    ) in report
    rows = table(root, f"fidelity-{study}")
    assert rows.loc[1, ["Rank", "Rank low", "Rank high"]].tolist() == pytest.approx([0.3, 0.2, 0.4])
    assert np.isnan(rows.loc[0, "Rank"])
    assert table(root, f"gradients-{study}").loc[0, ["Cosine low", "Noise high"]].tolist() == pytest.approx([0.3, 1.6])
    (choice,) = table(root, f"choices-{study}").to_dict("records")
    assert (choice["Hindsight"], choice["By the gap"], choice["By the student high"]) == ("self", 0.9, 0.7)


def test_where_nothing_has_causes_there_is_no_fidelity(tmp_path: Path) -> None:
    root = write_credit(tmp_path / "null", "null_causal")
    names = {path.name for path in build(root, root / "paper")}
    assert not any(name.startswith(("fidelity", "ranks", "scatter")) for name in names)
    assert "the outcome explains: grpo 0.50, opd 0.50." in (root / "paper" / "REPORT.md").read_text()


def test_a_damaged_credit_study_is_named(tmp_path: Path) -> None:
    root = write_credit(tmp_path / "damaged")
    (root / "credit" / "diagnostic-critical_step-tiny" / "credits.parquet").write_bytes(b"none")
    with pytest.raises(PaperError, match=r"the credit study in .*diagnostic-critical_step-tiny cannot be read"):
        build(root, root / "paper")


def test_nothing_complete_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty" / "credit").mkdir(parents=True)
    with pytest.raises(PaperError, match="holds no complete run and no complete credit study"):
        build(tmp_path / "empty", tmp_path / "paper")


def test_any_settings_that_were_crossed_have_a_table_and_a_figure(tmp_path: Path) -> None:
    root = tmp_path / "teachers"
    write_arm(root / "alfworld-mini", "grpo", (7, 8, 9))
    for teacher, after in (("initial", (3, 4, 5)), ("live", (5, 5, 6))):
        write_arm(root / "alfworld-mini" / f"teacher={teacher}+divergence=jsd", "opd", after)
    names = {path.name for path in build(root, root / "paper")}
    name = "variants-alfworld-mini-teacher-divergence"
    assert {f"{name}.csv", f"{name}.png"} <= names
    rows = table(root, name)
    assert rows["Method"].tolist() == ["GRPO", "OPD", "OPD"]
    assert rows["teacher"].tolist() == ["—", "initial", "live"]
    assert rows["After"].tolist() == pytest.approx([8 / 12, 4 / 12, 16 / 36])
    assert rows["Minus GRPO"].tolist()[1:] == pytest.approx([-4 / 12, -8 / 36])
    assert f"figures/{name}.png" in (root / "paper" / "REPORT.md").read_text()

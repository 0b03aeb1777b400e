import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stepcredit.paper.build import build
from stepcredit.paper.errors import PaperError
from stepcredit.paper.figures import learning_curves, paired_differences, subset_rates
from stepcredit.paper.report import markdown_report, report_of
from stepcredit.paper.results import load_study
from tests.paper.support import episode, save_manifest, simulated_episodes, tasks, write_run, write_study


def contents(paths: list[Path], root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_study(tmp_path_factory.mktemp("results") / "reproduce", seeds=2)
    write_run(folder, "grpo", 0, replicate=True)
    write_run(folder, "grpo", 5, changes={"status": "running"})
    return folder


@pytest.fixture(scope="module")
def built(study: Path) -> dict[str, bytes]:
    return contents(build(study, study / "paper"), study / "paper")


def test_everything_is_made(built: dict[str, bytes]):
    names = ("success", "learning", "differences", "provenance", "cost", "secondary", "methods", "checklist")
    tables = {f"tables/{name}.{kind}" for name in names
              for kind in ("md", "tex", "csv")}  # fmt: skip
    plots = ("learning_curves", "subset_rates", "paired_differences", "diagnostics", "profiles")
    figures = {f"figures/{name}.{kind}" for name in plots
               for kind in ("png", "svg")}  # fmt: skip
    assert built.keys() == tables | figures | {"REPORT.md", "paper.pdf"}
    assert built["paper.pdf"].startswith(b"%PDF-")
    assert built["figures/subset_rates.png"].startswith(b"\x89PNG")


def test_the_report_embeds_what_was_made(built: dict[str, bytes]):
    report = built["REPORT.md"].decode()
    for name in built:
        if name.endswith((".png", ".csv", ".tex")):
            assert f"]({name})" in report
    title, body = built["tables/success.md"].decode().strip().split("\n\n", 1)
    assert title.strip("*") in report
    assert body in report
    assert "alfworld-mini-tiny-grpo-s5: not finished" in report


def test_each_heading_and_caption_stands_once(built: dict[str, bytes]):
    lines = built["REPORT.md"].decode().splitlines()
    titles = [line.strip("#* ") for line in lines if line.startswith(("#", "*"))]
    assert len(titles) > 10
    assert sorted(titles) == sorted(set(titles))


def test_one_is_singular(tmp_path: Path):
    small = {"tasks": 1, "group": 1, "max_turns": 1, "max_response_tokens": 1, "max_context_tokens": 1}
    panels = {"train": {"size": 1}, "eval": {"size": 1}}
    write_run(tmp_path, updates=1, every=1, panel_size=1, changes={"spec": {"rollout": small}, "panels": panels})
    text = markdown_report(report_of(load_study(tmp_path)))
    assert "held-out panel of 1 valid_unseen task," in text
    assert re.findall(r"\b1 (?:\w+s|trajectories)\b", text) == []
    assert "1 turn per episode, 1 token per turn, 1 token of context" in text


def test_equal_results_give_equal_bytes_anywhere_in_any_row_order(study: Path, built: dict[str, bytes], tmp_path: Path):
    copy = tmp_path / "elsewhere" / "reproduce"
    shutil.copytree(study, copy, ignore=shutil.ignore_patterns("paper"))
    shuffle_rows(copy / "alfworld-mini-tiny-stepopsd-s1")
    again = contents(build(copy, tmp_path / "out"), tmp_path / "out")
    assert {name for name in built if again[name] != built[name]} == set()


def test_what_has_not_changed_is_not_built_again(study: Path, tmp_path: Path):
    out = tmp_path / "out"
    first = build(study, out)
    made = {path: path.stat().st_mtime_ns for path in first}
    assert build(study, out) == first
    assert {path: path.stat().st_mtime_ns for path in first} == made
    (out / "tables" / "success.csv").write_text("spoilt")
    (out / "tables" / "of-an-earlier-one.csv").write_text("")
    assert build(study, out) == first
    assert "spoilt" not in (out / "tables" / "success.csv").read_text()
    assert not (out / "tables" / "of-an-earlier-one.csv").exists()


def test_runs_below_links_are_looked_at_too(study: Path, tmp_path: Path):
    linked, runs = tmp_path / "linked", sorted(study.glob("alfworld-*-s0"))
    linked.mkdir()
    for number, run in enumerate(runs[:2]):
        (linked / run.name).symlink_to(run)
        build(linked, tmp_path / "out")
        said = (tmp_path / "out" / "REPORT.md").read_text()
        assert [own.name in said for own in runs[:2]] == [True, number == 1]


def test_changed_results_are_built_anew(study: Path, tmp_path: Path):
    copy = tmp_path / "copy"
    shutil.copytree(study, copy, ignore=shutil.ignore_patterns("paper"))
    build(copy, tmp_path / "out")
    write_run(copy, "grpo", 9)
    build(copy, tmp_path / "out")
    assert "alfworld-mini-tiny-grpo-s9" in (tmp_path / "out" / "REPORT.md").read_text()
    (tmp_path / "out" / ".built.json").write_text("{")
    assert build(copy, tmp_path / "out")


def shuffle_rows(folder: Path) -> None:
    """The same episodes in another order; other bytes, so the manifest needs their hash."""
    path = folder / "episodes.parquet"
    frame = pd.read_parquet(path)
    frame.iloc[np.random.default_rng(3).permutation(len(frame))].to_parquet(path)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    save_manifest(folder, manifest)


def test_curves_show_the_means_over_seeds(tmp_path: Path):
    panel = tasks(4)
    for seed, solved in ((0, 1), (1, 3)):
        rows = [episode(task, update=update, seed=seed, success=i < (solved if update else 2))
                for update in (0, 4) for i, task in enumerate(panel)]  # fmt: skip
        training = simulated_episodes("grpo", seed, 4, 4, 12)
        write_run(
            tmp_path, "grpo", seed, panel_size=4, episodes=[*rows, *(r for r in training if r["phase"] == "train")]
        )
    axes = learning_curves(load_study(tmp_path)).axes[0]
    line = next(line for line in axes.lines if line.get_label() == "GRPO")
    assert np.asarray(line.get_xdata()).tolist() == [0, 4]
    assert np.asarray(line.get_ydata()).tolist() == [50.0, 50.0]


def test_rates_name_their_n(study: Path):
    axes = subset_rates(load_study(study)).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()][-2:] == ["PickTwo\nn=2, 4", "All\nn=12, 24"]
    assert [text.get_text() for text in axes.figure.legends[0].get_texts()] == [
        "Before training", "GRPO", "OPD", "StepOPSD"
    ]  # fmt: skip


def test_differences_name_their_n_once_a_row(study: Path):
    axes = paired_differences(load_study(study)).axes[0]
    assert [text.get_text() for text in axes.texts] == [*["n=4"] * 6, "n=24"]


@pytest.mark.parametrize(("column", "word"), [("exact_match", "Exact match"), ("other", "Success")])
def test_tables_figures_and_sentences_call_the_score_by_one_word(tmp_path: Path, column: str, word: str):
    for method in ("grpo", "opd"):
        rows = [row | {column: row["success"]} for row in simulated_episodes(method, 0, 4, 2, 12)]
        write_run(tmp_path, method, episodes=rows)
    study = load_study(tmp_path)
    text = markdown_report(report_of(study))
    assert f"## {word} on the held-out panel" in text
    assert f"tasks, {word.lower()} was" in text
    labels = [learning_curves(study).axes[0].get_ylabel(), subset_rates(study).axes[0].get_ylabel(),
              paired_differences(study).get_supxlabel()]  # fmt: skip
    assert [label.startswith(word) for label in labels] == [True] * 3
    assert bool(re.search(r"\b[Ss]uccess\b(?!\.)", text)) == (word == "Success")


@pytest.mark.parametrize(("methods", "seeds"), [(("opd",), 1), (("grpo", "a_new_one"), 2)])
def test_any_number_of_methods_and_seeds(tmp_path: Path, methods: tuple[str, ...], seeds: int):
    study = write_study(tmp_path / "study", methods=methods, seeds=seeds, updates=1)
    names = contents(build(study, tmp_path / "out"), tmp_path / "out").keys()
    assert ("figures/paired_differences.svg" in names) == (len(methods) > 1)


def test_runs_without_any_evaluation_are_shown_as_such(tmp_path: Path):
    rows = [row for row in simulated_episodes("grpo", 0, 4, 2, 12) if row["phase"] == "train"]
    write_run(tmp_path / "study", episodes=rows)
    build(tmp_path / "study", tmp_path / "out")
    assert "is not measured after it" in (tmp_path / "out" / "REPORT.md").read_text()


def test_runs_of_no_updates_are_their_evaluation(tmp_path: Path):
    study = load_study(write_study(tmp_path, methods=("grpo", "opd"), seeds=1, updates=0, every=1))
    report = report_of(study)
    assert "| GRPO | 1 |" in markdown_report(report)
    for plot in report.plots:
        assert plot.draw().axes


def test_an_output_that_cannot_be_written_is_named(study: Path, tmp_path: Path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(PaperError, match=r"cannot write .*methods\.md: "):
        build(study, blocked)


def test_the_paper_needs_no_torch():
    code = "import sys, stepcredit.paper.build, stepcredit.paper.compare; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "stepcredit.paper" in loaded
    others = {"torch", "transformers", "stepcredit.harness", "stepcredit.methods", "stepcredit.envs"}
    assert not loaded & others

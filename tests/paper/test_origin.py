"""What `study.json` says, and what a report makes of it."""

import json
from pathlib import Path

import pytest

from stepcredit.paper.errors import PaperError
from stepcredit.paper.origin import Origin, read_origin
from stepcredit.paper.report import markdown_report, report_of
from stepcredit.paper.results import load_study
from tests.paper.support import write_run


def recorded(study: Path, *commands: str, folder: str = "results/mine") -> None:
    (study / "study.json").write_text(json.dumps({"schema": 1, "folder": folder, "commands": commands}))


def ending(study: Path) -> str:
    return markdown_report(report_of(load_study(study))).split("## Make it again\n")[1]


def test_the_report_prints_the_command_that_made_the_study(tmp_path: Path):
    write_run(tmp_path)
    recorded(tmp_path, "make reproduce OUT=results/mine")
    made, again = ending(tmp_path).split("```sh\n")[1:]
    assert made.split("```")[0] == "make reproduce OUT=results/mine\n"
    assert again.split("```")[0] == "stepcredit paper results/mine\n"


def test_several_commands_stand_in_their_order(tmp_path: Path):
    write_run(tmp_path)
    recorded(tmp_path, "stepcredit train --seed 1", "stepcredit train --seed 0", folder="my results")
    assert "in this order" in ending(tmp_path)
    assert "```sh\nstepcredit train --seed 1\nstepcredit train --seed 0\n```" in ending(tmp_path)
    assert "stepcredit paper 'my results'\n" in ending(tmp_path)


def test_without_a_record_the_report_says_so_and_what_the_runs_had(tmp_path: Path):
    write_run(tmp_path / "study", "opd", 3)
    text = ending(tmp_path / "study")
    assert "was not recorded" in text
    for field in ("model tiny", "benchmark alfworld", "suite mini", "method opd", "seed 3", "updates 4",
                  "rollout.tasks 16", "rollout.group 8", "optim.lr 0.0005", "evaluation.every 2"):  # fmt: skip
        assert f"{field};" in text
    assert "make " not in text


def test_a_repeated_command_keeps_its_place():
    one = Origin(folder="a", commands=("first", "second"))
    assert one.followed_by("third", "b") == Origin(folder="b", commands=("first", "second", "third"))
    assert one.followed_by("first", "a") == one


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"schema": 1, "folder": "x", "commands": []}', '{"schema": 2}', "[" * 9999]
)
def test_a_damaged_record_is_refused_by_name(tmp_path: Path, text: str):
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(PaperError, match=r"study\.json is no record .* restore it or delete this one file"):
        read_origin(tmp_path)


@pytest.mark.parametrize(
    ("commands", "hint"),
    [
        ((), "finish the command that began them"),
        (("stepcredit train --seed 7",), "finish `stepcredit train --seed 7`"),
    ],
)
def test_an_unfinished_study_names_the_command_to_finish(tmp_path: Path, commands: tuple[str, ...], hint: str):
    write_run(tmp_path, changes={"status": "running"})
    if commands:
        recorded(tmp_path, *commands)
    with pytest.raises(PaperError, match=hint):
        load_study(tmp_path)

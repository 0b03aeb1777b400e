"""Real games: both places they come from, and every way in which a copy can be broken."""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from stepcredit.envs.alfworld.assets import load_assets, read_assets
from stepcredit.envs.alfworld.benchmark import AlfworldBenchmark
from stepcredit.envs.alfworld.sources import listed_games, open_source
from stepcredit.envs.contract import EnvError

DATA = os.environ.get("STEPCREDIT_DATA", "")
needs_data = pytest.mark.skipif(not DATA, reason="STEPCREDIT_DATA is unset: no real games")

PROBLEM = "(define (problem p) (:domain alfred) (:init) (:goal (and)))"


def write_game(root: Path, game_id: str, **changes: object) -> None:
    content = {
        "grammar": '"rhs": "Your task is to: put a pen in drawer."',
        "pddl_problem": PROBLEM,
        "solvable": True,
        **changes,
    }
    folder = root / game_id
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "game.tw-pddl").write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("alfworld")
    for game_id in listed_games("valid_unseen"):
        write_game(root / "json_2.1.1", game_id)
    return root


@pytest.fixture
def copy(complete: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(complete, tmp_path / "copy"))


def one_line(environ: dict[str, str], split: str = "valid_unseen") -> str:
    with pytest.raises(EnvError) as caught:
        open_source("real", environ).games(split)
    message = str(caught.value)
    assert "\n" not in message
    return message


def pack(root: Path, lines: list[dict[str, object]]) -> Path:
    """A packed valid_unseen with a correct checksum."""
    folder = root / "alfworld"
    folder.mkdir()
    data = lzma.compress("\n".join(json.dumps(line) for line in lines).encode())
    (folder / "valid_unseen.jsonl.xz").write_bytes(data)
    (folder / "SHA256SUMS").write_text(f"{hashlib.sha256(data).hexdigest()}  valid_unseen.jsonl.xz\n")
    return root


def packed_lines() -> list[dict[str, object]]:
    return [{"id": name, "task": "put a pen in drawer.", "problem": PROBLEM} for name in listed_games("valid_unseen")]


@pytest.mark.parametrize(("split", "size"), [("train", 3553), ("valid_seen", 140), ("valid_unseen", 134)])
def test_the_listed_games_are_alfworlds(split: str, size: int) -> None:
    games = listed_games(split)
    assert len(set(games)) == size
    assert list(games) == sorted(games)


def test_the_unseen_subsets_have_alfworlds_sizes(complete: Path) -> None:
    games = open_source("real", {"ALFWORLD_DATA": str(complete)}).games("valid_unseen")
    assert Counter(game.subset.value for game in games) == {
        "Pick": 24,
        "Look": 18,
        "Clean": 31,
        "Heat": 23,
        "Cool": 21,
        "PickTwo": 17,
    }


def test_the_root_may_hold_the_splits_directly(complete: Path) -> None:
    above = open_source("real", {"ALFWORLD_DATA": str(complete)}).games("valid_unseen")
    inside = open_source("real", {"ALFWORLD_DATA": str(complete / "json_2.1.1")}).games("valid_unseen")
    assert above == inside


def test_alfworld_data_wins_over_packed_files(complete: Path, tmp_path: Path) -> None:
    source = open_source("real", {"ALFWORLD_DATA": str(complete), "STEPCREDIT_DATA": str(tmp_path)})
    assert source.provenance()["source"].startswith("ALFWORLD_DATA")


def test_games_that_are_not_listed_are_passed_over(copy: Path) -> None:
    write_game(copy / "json_2.1.1", "valid_unseen/pick_and_place_with_movable_recep-Pen-Mug-Desk-308/trial_T1")
    assert len(open_source("real", {"ALFWORLD_DATA": str(copy)}).games("valid_unseen")) == 134


def test_another_wording_makes_another_panel(copy: Path, complete: Path) -> None:
    write_game(
        copy / "json_2.1.1",
        listed_games("valid_unseen")[7],
        grammar='"rhs": "Your task is to: put some pen on drawer."',
    )
    panels = [
        AlfworldBenchmark("real", {"ALFWORLD_DATA": str(root)}).panel("valid_unseen") for root in (copy, complete)
    ]
    assert panels[0].sha256 != panels[1].sha256


def _remove(path: Path) -> None:
    path.unlink()


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def _rewrite(**changes: object) -> Callable[[Path], None]:
    def rewrite(path: Path) -> None:
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return rewrite


@pytest.mark.parametrize(
    ("harm", "complaint"),
    [
        (_remove, "game.tw-pddl is missing"),
        (_truncate, "game.tw-pddl is corrupt"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), "game.tw-pddl is corrupt"),
        (lambda path: path.write_text("[]"), "is not a JSON object"),
        (_rewrite(solvable=False), "marked solvable: false"),
        (_rewrite(solvable=None), "marked solvable: null"),
        (_rewrite(pddl_problem=None), "of another version"),
        (_rewrite(grammar="no sentence"), "has no task sentence"),
        (_rewrite(grammar='"Your task is to: UNKNOWN GOAL."'), "has no task sentence"),
        (_rewrite(pddl_problem="(define (problem p)"), "has no init or no goal"),
    ],
)
def test_an_unusable_game_is_named(copy: Path, harm: Callable[[Path], None], complaint: str) -> None:
    victim = listed_games("valid_unseen")[100]
    harm(copy / "json_2.1.1" / victim / "game.tw-pddl")
    message = one_line({"ALFWORLD_DATA": str(copy)})
    assert f"{victim}: " in message
    assert complaint in message
    assert "holds 133 usable games of valid_unseen, expected 134" in message


def test_a_problem_that_cannot_be_read_names_its_game(complete: Path) -> None:
    """Its facts and goal are there, so only playing it shows that they say nothing."""
    game = listed_games("valid_unseen")[0]
    with pytest.raises(EnvError, match=f"^{game}: PDDL problem"):
        AlfworldBenchmark("real", {"ALFWORLD_DATA": str(complete)}).make(game)


def test_many_missing_games_make_one_short_line(copy: Path) -> None:
    for game_id in listed_games("valid_unseen")[50:]:
        shutil.rmtree(copy / "json_2.1.1" / game_id)
    message = one_line({"ALFWORLD_DATA": str(copy)})
    assert "holds 50 usable games" in message
    assert "and 81 more" in message


@pytest.mark.parametrize(
    ("layout", "complaint"),
    [
        (None, "is not a folder"),
        ([], "holds no games, expected json_2.1.1/"),
        (["json_2.0.0/train"], "holds only json_2.0.0, expected json_2.1.1/"),
        (["json_2.1.1/train"], "has no folder valid_unseen"),
    ],
)
def test_an_unusable_root_is_explained(tmp_path: Path, layout: list[str] | None, complaint: str) -> None:
    root = tmp_path / "data"
    if layout is not None:
        root.mkdir()
        for folder in layout:
            (root / folder).mkdir(parents=True)
    assert complaint in one_line({"ALFWORLD_DATA": str(root)})


def test_without_data_the_message_says_how_to_get_it() -> None:
    assert "run alfworld-download and set ALFWORLD_DATA" in one_line({})


def test_packed_games_are_read(tmp_path: Path) -> None:
    games = open_source("real", {"STEPCREDIT_DATA": str(pack(tmp_path, packed_lines()))}).games("valid_unseen")
    assert tuple(game.id for game in games) == listed_games("valid_unseen")


def test_a_packed_game_that_is_missing_is_named(tmp_path: Path) -> None:
    root = pack(tmp_path, packed_lines()[:-1])
    assert f"{listed_games('valid_unseen')[-1]}: is missing" in one_line({"STEPCREDIT_DATA": str(root)})


def test_a_truncated_packed_file_is_refused(tmp_path: Path) -> None:
    path = pack(tmp_path, packed_lines()) / "alfworld" / "valid_unseen.jsonl.xz"
    path.write_bytes(path.read_bytes()[:-10])
    assert "is damaged: its sha256 is" in one_line({"STEPCREDIT_DATA": str(tmp_path)})


def test_a_packed_file_that_is_not_xz_is_refused_even_with_a_right_checksum(tmp_path: Path) -> None:
    folder = pack(tmp_path, packed_lines()) / "alfworld"
    (folder / "valid_unseen.jsonl.xz").write_bytes(b"not xz")
    (folder / "SHA256SUMS").write_text(f"{hashlib.sha256(b'not xz').hexdigest()}  valid_unseen.jsonl.xz\n")
    assert "is not xz-compressed JSON lines" in one_line({"STEPCREDIT_DATA": str(tmp_path)})


@pytest.mark.parametrize(
    ("name", "complaint"), [("SHA256SUMS", "SHA256SUMS cannot be read"), ("valid_unseen.jsonl.xz", "cannot be read")]
)
def test_a_missing_packed_file_is_named(tmp_path: Path, name: str, complaint: str) -> None:
    root = pack(tmp_path, packed_lines())
    (root / "alfworld" / name).unlink()
    assert complaint in one_line({"STEPCREDIT_DATA": str(root)})


@needs_data
@pytest.mark.parametrize(("split", "size"), [("valid_seen", 140), ("valid_unseen", 134)])
def test_the_shared_packed_games_are_complete(split: str, size: int) -> None:
    assert len(AlfworldBenchmark("real", {"STEPCREDIT_DATA": DATA}).panel(split).tasks) == size


def test_the_installed_wheel_speaks_the_default_grammar() -> None:
    assets = load_assets()
    assert "move {o} to {r}" in assets.grammar
    assert "Egg" in assets.affords["Heatable"]
    assert "Egg" in assets.fits["Fridge"]
    assert not any(name.endswith("Sliced") for names in assets.fits.values() for name in names)


@pytest.mark.parametrize("version", ["0.3.5", "0.4.1", "0.5.0", "1.0"])
def test_another_wheel_is_refused(tmp_path: Path, version: str) -> None:
    with pytest.raises(EnvError, match=r"of another version than 0\.4\.2"):
        read_assets(tmp_path, version)


def test_an_incomplete_wheel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EnvError, match=r"alfred\.pddl is missing"):
        read_assets(tmp_path, "0.4.2")


def test_a_missing_wheel_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    load_assets.cache_clear()
    with pytest.raises(EnvError, match="not installed; install it with"):
        load_assets()

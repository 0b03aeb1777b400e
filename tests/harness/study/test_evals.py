"""When an evaluation is made again, and when its numbers come back; its inputs one by one are in test_evaluations."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.envs.alfworld.generator import generate
from stepcredit.envs.alfworld.sources import listed_games
from stepcredit.envs.alfworld.subsets import Subset
from stepcredit.envs.searchqa.retrieval import wire
from stepcredit.envs.searchqa.retrieval.bm25 import Bm25Retriever
from stepcredit.envs.searchqa.retrieval.server import create_app
from stepcredit.envs.searchqa.synthetic import synthetic_corpus
from stepcredit.harness.record.manifest import PanelRecord, PolicyRecord
from stepcredit.harness.record.rows import EpisodeRow, read_rows
from stepcredit.harness.spec import RolloutSpec
from stepcredit.harness.study.evals import Identity, Request, evaluate_run
from tests.envs.searchqa.serving import serving

TWO = Request(size=2)
IDENTITY = Identity(
    cell="alfworld-mini-tiny-grpo-s0",
    spec_sha256="1" * 64,
    policy=PolicyRecord(preset="tiny", parameters=7, weights_sha256="2" * 64, provenance="embedded"),
    update=3,
    checkpoint_sha256="3" * 64,
    benchmark="alfworld",
    suite="mini",
    env_options={"topk": 3, "format_reward": 0.5, "retriever": {"engine": "bm25"}},
    data={"corpus_sha256": "4" * 64, "k1": "0.9"},
    panel=PanelRecord(split="valid_unseen", size=2, sha256="5" * 64),
    limits=RolloutSpec(max_observation_tokens=64, window=2),
    temperature=1.0,
    seed=0,
    stepcredit_version="source",
    versions={"torch": "2.11"},
    determinism={"threads": 1, "device": "cpu", "matmul": {"tf32": False}},
)
CONTENT = IDENTITY.model_dump(mode="json")


def leaves(content: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name)


def put(content: dict[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    name, *inner = path
    return {**content, name: put(content[name], inner, value) if inner else value}


def at(content: Mapping[str, Any], path: Sequence[str]) -> Any:
    return at(content[path[0]], path[1:]) if path else content


def others(value: Any) -> st.SearchStrategy[Any]:
    """Values of the same type that limits allow, but for this one."""
    kinds: dict[type, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        int: st.integers(16, 10**9),
        float: st.floats(0, 1e9, exclude_min=True),
        str: st.text(),
    }
    return kinds[type(value)].filter(lambda other: other != value)


@pytest.mark.parametrize("path", list(leaves(CONTENT)), ids=".".join)
@settings(max_examples=15)
@given(data=st.data())
def test_every_leaf_of_an_identity_is_in_its_hash_and_file_name(path: tuple[str, ...], data: st.DataObject) -> None:
    changed = Identity.model_validate(put(CONTENT, path, data.draw(others(at(CONTENT, path)))))
    assert changed.sha256 != IDENTITY.sha256
    assert changed.file_name.endswith(f"{changed.sha256[:12]}.parquet")
    assert Identity.model_validate(CONTENT).file_name == IDENTITY.file_name


@pytest.fixture
def household(household_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(household_run, tmp_path / household_run.name))


@pytest.fixture
def search(search_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(search_run, tmp_path / search_run.name))


def evaluated(folder: Path, request: Request) -> tuple[dict[str, Any], bool]:
    """The summary, and whether episodes were played for it."""
    calls: list[int] = []
    summary = evaluate_run(folder, request, 1, "cpu", lambda done, total: calls.append(done))
    return summary, bool(calls)


def identity_of(summary: Mapping[str, Any]) -> dict[str, Any]:
    return {name: summary.get(name) for name in Identity.model_fields}


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> set[str]:
    one, other = identity_of(a), identity_of(b)
    return {name for name in one if one[name] != other[name]}


def test_where_a_run_lies_does_not_matter(household: Path, tmp_path: Path) -> None:
    again = Path(shutil.copytree(household, tmp_path / "elsewhere"))
    here, there = (evaluated(folder, TWO)[0] for folder in (household, again))
    assert differing(here, there) == set()
    assert Path(here["file"]).name == Path(there["file"]).name


def test_another_engine_makes_another_evaluation(search: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server with another BM25, though its place, which the environment names, is in no spec."""
    before, _ = evaluated(search, TWO)
    asked = replace(TWO, settings=("env_options.retriever.engine=http",))
    summaries = []
    for k1 in (0.9, 1.2):
        with serving(create_app(Bm25Retriever(synthetic_corpus(), k1))) as url:
            monkeypatch.setenv("STEPCREDIT_RETRIEVER", url)
            summary, played = evaluated(search, asked)
        assert played
        summaries.append(summary)
    assert differing(before, summaries[0]) == {"env_options", "data"}
    assert differing(*summaries) == {"data"}
    assert [summary["data"]["k1"] for summary in summaries] == ["0.9", "1.2"]


def test_a_server_that_does_not_say_what_it_searches_is_asked_again(
    search: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app(Bm25Retriever(synthetic_corpus()))
    app.router.routes[:] = [route for route in app.router.routes if getattr(route, "path", "") != wire.INFO]
    asked = replace(TWO, settings=("env_options.retriever.engine=http",))
    with serving(app) as url:
        monkeypatch.setenv("STEPCREDIT_RETRIEVER", url)
        first, _ = evaluated(search, asked)
        assert evaluated(search, asked) == (first, True)


def test_games_that_were_replaced_are_played_again(
    household: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    games = listed_games("valid_unseen")
    for name in games:
        write_game(tmp_path, name, 0)
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path))
    real = Request(suite="real", size=1, settings=("rollout.max_turns=2",))
    first, _ = evaluated(household, real)
    (row,) = read_rows(Path(first["file"]), EpisodeRow)
    write_game(tmp_path, next(name for name in games if name != row.task_id), 1)
    assert evaluated(household, real) == (first, False)
    write_game(tmp_path, row.task_id, 1)
    second, played = evaluated(household, real)
    assert (played, differing(first, second)) == (True, {"panel"})


def write_game(root: Path, name: str, index: int) -> None:
    """A generated game in the place of a real one."""
    game = generate("mini", "valid_unseen", Subset.PICK, index)
    path = root / "json_2.1.1" / name / "game.tw-pddl"
    path.parent.mkdir(parents=True, exist_ok=True)
    grammar = f'"Your task is to: {game.task}"'
    path.write_text(json.dumps({"grammar": grammar, "pddl_problem": game.problem, "solvable": True}))


@pytest.mark.parametrize("lost", [".parquet", ".json"])
def test_an_evaluation_of_which_a_part_was_lost_is_made_again(household: Path, lost: str) -> None:
    first, _ = evaluated(household, TWO)
    rows = Path(first["file"]).read_bytes()
    Path(first["file"]).with_suffix(lost).unlink()
    assert evaluated(household, TWO) == (first, True)
    assert Path(first["file"]).read_bytes() == rows


def test_rows_that_were_changed_are_made_again(household: Path) -> None:
    first, _ = evaluated(household, TWO)
    rows = Path(first["file"]).read_bytes()
    Path(first["file"]).write_bytes(rows[:-7])
    assert evaluated(household, TWO) == (first, True)
    assert Path(first["file"]).read_bytes() == rows

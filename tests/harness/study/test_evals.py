"""An evaluation's identity: whatever determines its numbers is in it, in its file's name and in its summary."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.envs.alfworld.generator import generate
from stepcredit.envs.alfworld.sources import listed_games
from stepcredit.envs.alfworld.subsets import Subset
from stepcredit.envs.searchqa.corpus import Passage
from stepcredit.envs.searchqa.retrieval import wire
from stepcredit.envs.searchqa.retrieval.bm25 import Bm25Retriever
from stepcredit.envs.searchqa.retrieval.server import create_app
from stepcredit.envs.searchqa.synthetic import synthetic_corpus
from stepcredit.harness.record import checkpoint, files
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
    return {name: summary[name] for name in Identity.model_fields}


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> set[str]:
    one, other = identity_of(a), identity_of(b)
    return {name for name in one if one[name] != other[name]}


HOUSEHOLD: Mapping[str, tuple[Request, set[str]]] = {
    "suite": (replace(TWO, suite="full", settings=("rollout.max_turns=2",)), {"suite", "panel", "limits", "data"}),
    "split": (replace(TWO, split="valid_seen"), {"panel"}),
    "size": (replace(TWO, size=3), {"panel"}),
    "per subset": (Request(per_subset=1), {"panel"}),
    "panel seed": (replace(TWO, panel_seed=1), {"panel"}),
    "temperature": (replace(TWO, temperature=0.5), {"temperature", "limits"}),
    "seed": (replace(TWO, seed=1), {"seed"}),
    "checkpoint": (replace(TWO, checkpoint=0), {"update", "checkpoint_sha256"}),
    "turns": (replace(TWO, settings=("rollout.max_turns=2",)), {"limits"}),
    "response": (replace(TWO, settings=("rollout.max_response_tokens=20",)), {"limits"}),
    "context": (replace(TWO, settings=("rollout.max_context_tokens=900",)), {"limits"}),
    "observation": (replace(TWO, settings=("rollout.max_observation_tokens=40",)), {"limits"}),
    "window": (replace(TWO, settings=("rollout.window=1",)), {"limits"}),
    "actions": (replace(TWO, settings=("rollout.window=1", "rollout.show_actions=true")), {"limits"}),
}
SEARCH: Mapping[str, tuple[Request, set[str]]] = {
    "topk": (replace(TWO, settings=("env_options.topk=1",)), {"env_options"}),
    "searches": (replace(TWO, settings=("env_options.searches=1",)), {"env_options"}),
    "reward": (replace(TWO, settings=("env_options.format_reward=0.5",)), {"env_options"}),
    "k1": (replace(TWO, settings=("env_options.retriever.k1=1.2",)), {"env_options", "data"}),
    "b": (replace(TWO, settings=("env_options.retriever.b=0.75",)), {"env_options", "data"}),
}


def assert_each_counts(folder: Path, variants: Mapping[str, tuple[Request, set[str]]]) -> None:
    base, played = evaluated(folder, TWO)
    assert played
    names = {Path(base["file"]).name}
    for what, (request, expected) in variants.items():
        summary, played = evaluated(folder, request)
        assert (what, played, differing(base, summary)) == (what, True, expected)
        names.add(Path(summary["file"]).name)
    assert evaluated(folder, TWO) == (base, False)
    assert names == {path.name for path in (folder / "evals").glob("*.parquet")}
    assert len(names) == 1 + len(variants)


def test_each_word_of_a_request_makes_another_evaluation(household: Path) -> None:
    assert_each_counts(household, HOUSEHOLD)


def test_each_option_of_a_benchmark_makes_another_evaluation(search: Path) -> None:
    assert_each_counts(search, SEARCH)


def test_where_a_run_lies_does_not_matter(household: Path, tmp_path: Path) -> None:
    again = Path(shutil.copytree(household, tmp_path / "elsewhere"))
    here, there = (evaluated(folder, TWO)[0] for folder in (household, again))
    assert differing(here, there) == set()
    assert Path(here["file"]).name == Path(there["file"]).name


def test_other_weights_make_another_evaluation(household: Path) -> None:
    before, _ = evaluated(household, TWO)
    path = checkpoint.find(household)
    spec_sha256 = files.read_json(household / "manifest.json")["spec_sha256"]
    state, weights = checkpoint.load(path, spec_sha256)
    checkpoint.save(household, spec_sha256, state, replace(weights, model={k: v * 2 for k, v in weights.model.items()}))
    after, played = evaluated(household, TWO)
    assert (played, differing(before, after)) == (True, {"checkpoint_sha256"})


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


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def write_corpus(folder: Path, passages: Sequence[Passage]) -> None:
    write_lines(folder / "corpus.jsonl", [asdict(passage) for passage in passages])


def write_questions(folder: Path, *asked: str) -> None:
    rows = [{"id": f"t{place}", "question": text, "golden_answers": ["Ann"]} for place, text in enumerate(asked)]
    write_lines(folder / "nq" / "test.jsonl", rows)


def harm_corpus(folder: Path) -> None:
    write_corpus(folder, synthetic_corpus().passages[:60])


def harm_questions(folder: Path) -> None:
    write_questions(folder, "who built the old mill?", "who is she?")


def add_question(folder: Path) -> None:
    write_questions(folder, "who built the mill?", "who is she?", "who else?")


@pytest.mark.parametrize(
    ("replaced", "expected"),
    [
        (harm_corpus, {"data"}),
        (harm_questions, {"data", "panel"}),
        (add_question, {"data", "panel"}),
    ],
)
def test_the_numbers_of_data_that_were_replaced_do_not_come_back(
    search: Path,
    replaced: Callable[[Path], None],
    expected: set[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "data" / "searchqa"
    write_questions(folder, "who built the mill?", "who is she?")
    write_corpus(folder, synthetic_corpus().passages[:20])
    monkeypatch.setenv("STEPCREDIT_DATA", str(folder.parent))
    monkeypatch.setenv("STEPCREDIT_CACHE", str(tmp_path / "cache"))
    real = Request(suite="real")
    first, _ = evaluated(search, real)
    replaced(folder)
    second, played = evaluated(search, real)
    assert (played, differing(first, second)) == (True, expected)
    assert {path.name for path in (search / "evals").glob("*.parquet")} == {
        Path(summary["file"]).name for summary in (first, second)
    }
    assert evaluated(search, real) == (second, False)


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

"""Panels: canonical, nested, and bound to their contents; the benchmark and its registry."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.envs import BENCHMARKS, load_benchmark
from stepcredit.envs.alfworld.benchmark import AlfworldBenchmark
from stepcredit.envs.alfworld.record import GameRecord
from stepcredit.envs.alfworld.subsets import Subset
from stepcredit.envs.contract import EnvError
from stepcredit.envs.panel import Panel, Task

names = st.text("abcdefgh/0123456789", min_size=1, max_size=8)
tasks = st.lists(
    st.builds(Task, id=names, subset=st.sampled_from(["Pick", "Heat"]), content_sha256=names),
    min_size=1,
    max_size=30,
    unique_by=lambda task: task.id,
)


@pytest.fixture(scope="module")
def mini() -> AlfworldBenchmark:
    return AlfworldBenchmark("mini", environ={})


@given(tasks, st.randoms(use_true_random=False))
def test_a_panel_forgets_the_order_it_was_given(members: list[Task], rng) -> None:  # type: ignore[no-untyped-def]
    shuffled = list(members)
    rng.shuffle(shuffled)
    panel = Panel.of("b", "s", "x", shuffled)
    assert list(panel.tasks) == sorted(members)
    assert panel.sha256 == Panel.of("b", "s", "x", members).sha256


@given(tasks, st.integers(0, 5), st.data())
def test_longer_prefixes_contain_shorter_ones(members: list[Task], seed: int, data: st.DataObject) -> None:
    panel = Panel.of("b", "s", "x", members)
    long = data.draw(st.integers(0, len(members)))
    short = data.draw(st.integers(0, long))
    assert set(panel.prefix(short, seed).tasks) <= set(panel.prefix(long, seed).tasks)
    assert len(panel.prefix(short, seed).tasks) == short
    assert list(panel.prefix(long, seed).tasks) == sorted(panel.prefix(long, seed).tasks)
    assert panel.prefix(len(members), seed).tasks == panel.tasks


@given(tasks, st.data())
def test_the_hash_changes_with_any_content(members: list[Task], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(members) - 1))
    old = members[index]
    changed = [*members[:index], Task(old.id, old.subset, old.content_sha256 + "x"), *members[index + 1 :]]
    assert Panel.of("b", "s", "x", members).sha256 != Panel.of("b", "s", "x", changed).sha256


def test_a_task_listed_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="lists task 'a' twice"):
        Panel.of("b", "s", "x", [Task("a", "Pick", "1"), Task("a", "Pick", "2")])


@pytest.mark.parametrize("field", ["task", "problem"])
def test_a_games_fingerprint_covers_sentence_and_problem(field: str) -> None:
    contents = {"id": "i", "subset": Subset.PICK, "task": "put a pen in drawer.", "problem": "(define)"}
    changed = {**contents, field: contents[field] + " "}
    assert GameRecord(**contents).as_task() != GameRecord(**changed).as_task()  # type: ignore[arg-type]


@pytest.mark.parametrize(("split", "each"), [("valid_seen", 40), ("valid_unseen", 40)])
def test_each_subset_has_its_share(mini: AlfworldBenchmark, split: str, each: int) -> None:
    counts = Counter(task.subset for task in mini.panel(split).tasks)
    assert counts == dict.fromkeys(["Pick", "Look", "Clean", "Heat", "Cool", "PickTwo"], each)
    assert mini.subsets == ("Pick", "Look", "Clean", "Heat", "Cool", "PickTwo")


@pytest.mark.parametrize(
    ("suite", "sha256"),
    [
        ("mini", "26b2da9a0d6a4f3a0b02bc9f833e53673e8b9b0ac7cfea50f9af2b02aede5f53"),
        ("full", "41eb37358db0066f34a1696982bf72f7fd997e2dfbb2e70a247fa8deb596c0e5"),
    ],
)
def test_the_held_out_panels_stay_what_results_were_measured_on(suite: str, sha256: str) -> None:
    """A change here makes committed results incomparable: raise GENERATOR_VERSION with it."""
    assert AlfworldBenchmark(suite, environ={}).panel("valid_unseen").sha256 == sha256


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 239))
def test_every_task_of_a_panel_can_be_made(mini: AlfworldBenchmark, index: int) -> None:
    task = mini.panel("valid_unseen").tasks[index]
    observation = mini.make(task.id).reset()
    assert mini.record(task.id).task in observation.text
    assert "look" in observation.actions


def test_episodes_of_one_game_do_not_share_state(mini: AlfworldBenchmark) -> None:
    task_id = mini.panel("valid_unseen").tasks[0].id
    first, second = mini.make(task_id), mini.make(task_id)
    start = second.reset()
    moved = next(action for action in first.reset().actions if action.startswith("go to"))
    first.step(moved)
    assert second.step("look").observation.actions == start.actions


def test_provenance_names_grammar_wheel_and_generator(mini: AlfworldBenchmark) -> None:
    provenance = mini.provenance()
    assert provenance["grammar"] == "2.1.2"
    assert provenance["source"] == "generated"
    assert len(provenance["gen/constants.py"]) == 64


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: load_benchmark("alfwrld", "mini"), "unknown benchmark 'alfwrld'; did you mean 'alfworld'?"),
        (lambda: load_benchmark("alfworld", "mni"), "unknown alfworld suite 'mni'; did you mean 'mini'?"),
        (lambda: load_benchmark("alfworld", "huge!"), "unknown alfworld suite 'huge!'; known: mini, full, real"),
        (lambda: load_benchmark("alfworld", "mini").panel("valid_unsen"), "did you mean 'valid_unseen'?"),
        (lambda: load_benchmark("alfworld", "mini").make("mini/Pick/0001"), "names none of the splits"),
        (
            lambda: load_benchmark("alfworld", "mini").make("mini/valid_seen/Pick/0041"),
            "did you mean 'mini/valid_seen/",
        ),
    ],
)
def test_unknown_names_get_one_clear_line(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(EnvError) as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_registry_makes_benchmarks_under_their_own_names() -> None:
    suites = {"alfworld": "mini", "searchqa": "synthetic"}
    assert [load_benchmark(name, suites[name]).name for name in BENCHMARKS] == list(BENCHMARKS)

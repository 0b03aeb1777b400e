"""What determines an evaluation's numbers is in its identity, its file's name and its summary."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stepcredit.harness.cli.app import run
from stepcredit.harness.record import files
from stepcredit.harness.record.rows import EpisodeRow, read_rows
from stepcredit.harness.study.evals import Identity, Request, evaluate_run, identity_of

PASSAGES = [{"id": str(n), "title": f"Town {n}", "text": f"Town {n} lies by the river {n}."} for n in range(12)]
QUESTIONS = [
    {"id": f"{name}-t{n}", "dataset": name, "question": f"where is town {n}?", "answers": [f"river {n}"]}
    for name in ("nq", "hotpotqa")
    for n in range(4)
]
DATA = {
    "few passages": (PASSAGES[:6], QUESTIONS),
    "more passages": (PASSAGES, QUESTIONS),
    "another answer": (PASSAGES, [QUESTIONS[0] | {"answers": ["the sea"]}, *QUESTIONS[1:]]),
    "one question less": (PASSAGES, QUESTIONS[1:]),
}
TRAIN = (
    "checkpoint_every=1",
    "updates=1",
    "rollout.tasks=2",
    "rollout.group=2",
    "evaluation.size=2",
    "evaluation.samples=1",
)


def write_data(folder: Path, passages: Sequence[Any], questions: Sequence[Any]) -> Path:
    place = folder / "searchqa"
    place.mkdir(parents=True, exist_ok=True)
    (place / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in passages))
    (place / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions))
    return folder


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("data")
    return {name: write_data(root / name, *content) for name, content in DATA.items()}


def trained(study: Path, benchmark: str) -> Path:
    words = [word for setting in TRAIN for word in ("--set", setting)]
    assert run(["train", "--benchmark", benchmark, "--out", str(study), *words]) == 0
    (folder,) = (path for path in study.iterdir() if path.is_dir())
    return folder


@pytest.fixture(scope="module")
def searching(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("searching"), "searchqa")


@pytest.fixture(scope="module")
def playing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("playing"), "alfworld")


REAL = Request(suite="real", size=4)


@dataclass(frozen=True)
class Asked:
    """An evaluation, with its data by name."""

    data: str = "more passages"
    request: Request = REAL
    threads: int = 1

    @property
    def effect(self) -> tuple[Any, ...]:
        """Equal for two that are one evaluation: which settings are the defaults is written out here."""
        asked = self.request
        chosen = dict(setting.split("=") for setting in asked.settings)
        turns, topk = chosen.get("rollout.max_turns", "5"), chosen.get("env_options.topk", "3")
        k1 = chosen.get("env_options.retriever.k1", "0.9")
        part = (asked.size, asked.per_subset, asked.panel_seed)
        how = (1.0 if asked.temperature is None else asked.temperature, asked.seed, asked.checkpoint or 0)
        data = self.data if asked.suite == "real" else ""
        return (asked.suite or "synthetic", data, part, how, turns, topk, k1, self.threads)


def identity(run_folder: Path, asked: Asked, data: dict[str, Path], patch: pytest.MonkeyPatch) -> Identity:
    patch.setenv("STEPCREDIT_DATA", str(data[asked.data]))
    request = asked.request
    if request.checkpoint == 0:  # the last one, by its default and by its name
        request = replace(request, checkpoint=1 if request.seed else None)
    return identity_of(run_folder, request, asked.threads, "cpu")


SETTINGS = st.lists(
    st.sampled_from(["rollout.max_turns=4", "env_options.topk=2", "env_options.retriever.k1=1.2"]),
    unique=True,
    max_size=3,
).map(tuple)
REQUESTS = st.builds(
    Request,
    suite=st.sampled_from(["real", "real", "synthetic", None]),
    size=st.sampled_from([3, 4]),
    panel_seed=st.sampled_from([0, 1]),
    temperature=st.sampled_from([None, 0.5, 1.0]),
    seed=st.sampled_from([0, 1]),
    settings=SETTINGS,
) | st.builds(Request, suite=st.just("real"), per_subset=st.sampled_from([1, 2]), panel_seed=st.sampled_from([0, 1]))
ASKED = st.builds(Asked, data=st.sampled_from(sorted(DATA)), request=REQUESTS, threads=st.sampled_from([1, 2]))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(one=ASKED, other=ASKED)
def test_two_evaluations_are_one_if_and_only_if_nothing_that_counts_differs(
    one: Asked, other: Asked, searching: Path, data: dict[str, Path], patch: pytest.MonkeyPatch
) -> None:
    left, right = (identity(searching, asked, data, patch) for asked in (one, other))
    assert (left.sha256 == right.sha256) == (one.effect == other.effect)
    assert (left.file_name == right.file_name) == (one.effect == other.effect)


BASE = Asked()
VARIED = {
    "fewer passages": replace(BASE, data="few passages"),
    "another answer": replace(BASE, data="another answer"),
    "threads": replace(BASE, threads=2),
    "the generated suite": replace(BASE, request=replace(BASE.request, suite="synthetic")),
    **{
        str(changed): replace(BASE, request=replace(BASE.request, **changed))
        for changed in (
            {"size": 3},
            {"size": None},
            {"size": None, "per_subset": 2},
            {"panel_seed": 1},
            {"temperature": 0.0},
            {"seed": 1},
            {"settings": ("rollout.max_turns=4",)},
            {"settings": ("rollout.max_response_tokens=20",)},
            {"settings": ("rollout.max_observation_tokens=64",)},
            {"settings": ("rollout.window=2",)},
            {"settings": ("env_options.topk=2",)},
            {"settings": ("env_options.searches=2",)},
            {"settings": ("env_options.retriever.k1=1.2",)},
            {"settings": ("env_options.retriever.b=0.75",)},
        )
    },
}


def test_each_input_makes_another_evaluation(searching: Path, data: dict[str, Path], patch: pytest.MonkeyPatch) -> None:
    found = {name: identity(searching, asked, data, patch) for name, asked in {"": BASE, **VARIED}.items()}
    assert len({each.file_name for each in found.values()}) == len(VARIED) + 1


def test_other_weights_make_another_evaluation(playing: Path, tmp_path: Path) -> None:
    """The same run's name, spec and update, and one number of its weights another."""
    other = files_copied(playing, tmp_path / playing.name)
    checkpoint = max(other.rglob("*.ckpt"))
    checkpoint.write_bytes(checkpoint.read_bytes() + b"\0")
    assert identity_of(playing, Request(), 1, "cpu") != identity_of(other, Request(), 1, "cpu")


def files_copied(source: Path, target: Path) -> Path:
    for path in (path for path in source.rglob("*") if path.is_file()):
        files.make_folder((target / path.relative_to(source)).parent)
        (target / path.relative_to(source)).write_bytes(path.read_bytes())
    return target


def test_a_larger_corpus_is_not_given_the_smaller_ones_numbers(
    searching: Path, tmp_path: Path, patch: pytest.MonkeyPatch
) -> None:
    patch.setenv("STEPCREDIT_DATA", str(write_data(tmp_path, *DATA["few passages"])))
    first = evaluate_run(searching, Request(suite="real", size=2), 1, "cpu")
    write_data(tmp_path, *DATA["more passages"])
    second = evaluate_run(searching, Request(suite="real", size=2), 1, "cpu")
    write_data(tmp_path, *DATA["few passages"])
    again = evaluate_run(searching, Request(suite="real", size=2), 1, "cpu")
    assert first["data"] != second["data"]
    assert first["file"] != second["file"]
    assert again == first
    assert all(len(read_rows(Path(each["file"]), EpisodeRow)) == 2 for each in (first, second))


def evaluated(folder: Path, *words: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert run(["evaluate", str(folder), "--size", "2", "--json", *words]) == 0
    summary: dict[str, Any] = json.loads(capsys.readouterr().out)
    return summary


def test_another_suite_brings_its_limits(playing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = evaluated(playing, capsys=capsys)
    full = evaluated(playing, "--suite", "full", capsys=capsys)
    chosen = evaluated(playing, "--suite", "full", "--set", "rollout.max_turns=3", capsys=capsys)
    assert [each["limits"]["max_turns"] for each in (own, full, chosen)] == [14, 50, 3]
    assert full["limits"]["max_context_tokens"] == 2048 > own["limits"]["max_context_tokens"]
    for summary in (own, full, chosen):
        assert sum(summary["stops"].values()) == 2
        rows = read_rows(Path(summary["file"]), EpisodeRow)
        assert max(row.turns for row in rows) <= summary["limits"]["max_turns"]
    assert chosen["stops"] == {"turn_limit": 2}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--temperature", "inf"], "a temperature of inf is none that can be sampled at"),
        (["--panel-seed", "3"], "panel seed 3 has no effect on a whole split"),
    ],
)
def test_an_option_without_effect_is_refused(
    words: list[str], complaint: str, playing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", str(playing), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line


def test_an_evaluation_counts_episodes_and_tasks(playing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", str(playing), "--size", "2"]) == 0
    *subsets, whole = [line for line in capsys.readouterr().out.splitlines() if "%" in line]
    episodes = sum(int(line.partition("(")[2].split()[0]) for line in subsets)
    assert whole.endswith(f"({episodes} episodes of 2 tasks)")
    assert all(line.endswith(("episode)", "episodes)")) for line in subsets)


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("rollout.group=4", "unknown setting of an evaluation 'rollout.group'"),
        ("optim.lr=1e-3", "unknown setting of an evaluation 'optim.lr'"),
        ("rollout.max_turn=4", "did you mean 'rollout.max_turns'"),
        ("env_options.retriever.engine=lucene", "benchmark alfworld has no option"),
        ("rollout.max_turns", "lacks a value"),
    ],
)
def test_a_setting_without_effect_is_refused(
    setting: str, complaint: str, playing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", str(playing), "--set", setting]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line

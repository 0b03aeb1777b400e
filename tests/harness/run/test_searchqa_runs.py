"""Whole runs on Search-QA: what is recorded, what a dead retriever leaves behind, what the loss may touch."""

import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from stepcredit.envs import load_benchmark
from stepcredit.envs.searchqa.corpus import Corpus
from stepcredit.envs.searchqa.retrieval.bm25 import Bm25Retriever
from stepcredit.envs.searchqa.retrieval.client import HttpRetriever
from stepcredit.envs.searchqa.retrieval.contract import RetrievalError, Retriever
from stepcredit.envs.searchqa.retrieval.dense import DenseRetriever, SentenceEncoder
from stepcredit.envs.searchqa.retrieval.server import create_app
from stepcredit.envs.searchqa.retrieval.sharded import Shard, ShardedRetriever
from stepcredit.envs.searchqa.synthetic import synthetic_corpus
from stepcredit.harness.episodes.player import Player
from stepcredit.harness.episodes.rollout import rollout
from stepcredit.harness.model.policy import load_policy
from stepcredit.harness.record import files
from stepcredit.harness.record.cell import EPISODES, Cell
from stepcredit.harness.record.rows import EpisodeRow, read_rows
from stepcredit.harness.seeds import Draws
from stepcredit.harness.setup.settings import build_spec
from stepcredit.harness.spec import RunSpec
from stepcredit.methods.spans import target_steps
from tests.envs.searchqa.serving import free_port, serving
from tests.envs.searchqa.tiny_encoder import write_encoder
from tests.harness.cells import KillPoint, run_here, run_in_process

SMALL = (
    "updates=2",
    "checkpoint_every=1",
    "rollout.tasks=3",
    "rollout.group=4",
    "evaluation.per_subset=2",
    "evaluation.samples=1",
    "evaluation.every=1",
)


def spec_of(*overrides: str, method: str = "stepopsd") -> RunSpec:
    return build_spec(
        model="tiny", benchmark="searchqa", suite=None, method=method, seed=0, overrides=(*SMALL, *overrides)
    )


def outcome(study: Path, spec: RunSpec) -> tuple[Any, ...]:
    manifest = files.read_json(Cell(study, spec).folder / "manifest.json")
    assert manifest["status"] == "complete"
    return manifest["final_weights_sha256"], manifest["update0_rollouts_sha256"], manifest["files"][EPISODES]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[Any, ...]]:
    study = tmp_path_factory.mktemp("undisturbed")
    assert run_in_process(study, spec_of()) == 0
    return study, outcome(study, spec_of())


def test_every_episode_is_recorded_with_what_its_searches_found(undisturbed: tuple[Path, tuple[Any, ...]]) -> None:
    study, _ = undisturbed
    rows = read_rows(Cell(study, spec_of()).folder / EPISODES, EpisodeRow)
    assert [row.phase for row in rows].count("eval") == 3 * 7 * 2
    assert {row.subset for row in rows if row.phase == "train"} <= {"NQ", "HotpotQA"}
    assert len({row.subset for row in rows if row.phase == "eval"}) == 7
    for row in rows:
        metrics = row.metrics
        assert metrics["exact_match"] == row.success == row.reward
        assert metrics["exact_match"] <= metrics["f1"] <= 1.0
        assert metrics["invalid_turns"] == row.invalid_actions
        assert metrics["searches"] + metrics["invalid_turns"] + metrics["answered"] == row.turns


def test_the_manifest_says_where_passages_came_from(undisturbed: tuple[Path, tuple[Any, ...]]) -> None:
    study, _ = undisturbed
    manifest = files.read_json(Cell(study, spec_of()).folder / "manifest.json")
    assert manifest["data"]["corpus_sha256"] == synthetic_corpus().sha256
    assert manifest["data"]["engine"] == "bm25s"
    assert manifest["trained_subsets"] == ["NQ", "HotpotQA"]
    assert manifest["spec"]["method_options"]["target"] == "clean_step_no_observation"
    assert manifest["spec"]["env_options"]["searches"] == 4


def test_a_killed_run_reaches_the_same_bits(tmp_path: Path, undisturbed: tuple[Path, tuple[Any, ...]]) -> None:
    point = KillPoint("stepcredit.envs.searchqa.env", "SearchQaEnv.step", 40)
    assert run_in_process(tmp_path, spec_of(), point) == -signal.SIGKILL
    assert run_in_process(tmp_path, spec_of()) == 0
    assert outcome(tmp_path, spec_of()) == undisturbed[1]


def test_a_server_that_dies_stops_the_run_and_the_run_resumes_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("STEPCREDIT_RETRIEVER", f"http://127.0.0.1:{port}")
    spec = spec_of("env_options.retriever.engine=http", "env_options.retriever.retries=1")
    retriever = Bm25Retriever(synthetic_corpus())
    with serving(create_app(retriever), port):
        run_here(tmp_path / "whole", spec.model_dump(mode="json"))
    with serving(create_app(_Mortal(retriever, calls=9)), port), pytest.raises(RetrievalError) as caught:
        run_here(tmp_path / "cut", spec.model_dump(mode="json"))
    assert f"127.0.0.1:{port}" in str(caught.value)
    cell = Cell(tmp_path / "cut", spec)
    assert files.read_json(cell.folder / "manifest.json")["status"] == "running"
    with pytest.raises(RetrievalError, match=str(port)):
        run_here(tmp_path / "cut", spec.model_dump(mode="json"))
    with serving(create_app(retriever), port):
        run_here(tmp_path / "cut", spec.model_dump(mode="json"))
    assert outcome(tmp_path / "cut", spec) == outcome(tmp_path / "whole", spec)


def test_a_shard_that_dies_stops_the_run_and_the_run_resumes_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = SentenceEncoder.load(str(write_encoder(tmp_path / "encoder")))
    passages = synthetic_corpus().passages
    there, mortal = (
        DenseRetriever(Corpus.of(passages[span]), encoder, cache=tmp_path) for span in (slice(0, 40), slice(40, 80))
    )
    short = ("updates=1", "rollout.tasks=2", "rollout.group=2", "evaluation.per_subset=1")
    spec = spec_of(*short, "env_options.retriever.engine=http", "env_options.retriever.retries=1", method="grpo")

    def play(study: Path, second: Retriever) -> None:
        with serving(create_app(there)) as one, serving(create_app(second)) as other:
            shards = [Shard(url, HttpRetriever(url, retries=0)) for url in (one, other)]
            with serving(create_app(ShardedRetriever(shards))) as front:
                monkeypatch.setenv("STEPCREDIT_RETRIEVER", front)
                run_here(study, spec.model_dump(mode="json"))

    play(tmp_path / "whole", mortal)
    with pytest.raises(RetrievalError, match="the disk with the index is gone"):
        play(tmp_path / "cut", _Mortal(mortal, calls=3))
    assert files.read_json(Cell(tmp_path / "cut", spec).folder / "manifest.json")["status"] == "running"
    play(tmp_path / "cut", mortal)
    assert outcome(tmp_path / "cut", spec) == outcome(tmp_path / "whole", spec)


class _Mortal:
    """A retriever that fails for good after some calls."""

    def __init__(self, inner: Retriever, calls: int) -> None:
        self._inner, self._left = inner, calls

    @property
    def info(self) -> Any:
        return self._inner.info

    def search(self, queries: Any, k: int) -> Any:
        self._left -= 1
        if self._left < 0:
            raise RetrievalError("the disk with the index is gone")
        return self._inner.search(queries, k)


def test_an_http_run_and_a_local_one_see_the_same_episodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: tuple[Path, tuple[Any, ...]]
) -> None:
    spec = spec_of("env_options.retriever.engine=http")
    with serving(create_app(Bm25Retriever(synthetic_corpus()))) as url:
        monkeypatch.setenv("STEPCREDIT_RETRIEVER", url)
        run_here(tmp_path, spec.model_dump(mode="json"))
    assert outcome(tmp_path, spec) == undisturbed[1]


def test_spans_are_the_text_between_the_tags_and_observations_carry_no_credit() -> None:
    benchmark = load_benchmark("searchqa", "synthetic")
    policy = load_policy("tiny", benchmark)
    limits = spec_of().rollout.model_copy(update={"group": 2})
    tasks = benchmark.panel("test").stratified(1, 0).tasks
    groups = rollout(Player.of(policy, benchmark), tasks, limits, Draws(0, update=0))
    kinds = set()
    for trajectory in (trajectory for group in groups for trajectory in group.trajectories):
        for step in trajectory.steps:
            text = [policy.transcript.token_bytes(int(token)) for token in step.response_ids]
            if step.action is None or step.think is None:
                continue
            action = b"".join(text[step.action.start : step.action.end]).decode()
            opening = text[step.action.start - 1].decode()
            kinds.add(opening)
            assert step.action_text == f"{opening}{action.strip()}</{opening[1:]}"
            assert text[step.think.start - 1] == b"<think>"
            assert text[step.think.end] == b"</think>"
            assert b"information" not in b"".join(text)
        credited = (target_steps(trajectory, "clean_step_no_observation") >= 0).sum()
        assert 0 < credited <= trajectory.response_tokens
    assert kinds == {"<search>", "<answer>"}


def test_a_port_without_a_server_is_one_sentence_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("STEPCREDIT_RETRIEVER", f"http://127.0.0.1:{port}")
    spec = spec_of("env_options.retriever.engine=http", "env_options.retriever.retries=0")
    with pytest.raises(RetrievalError, match=str(port)):
        run_here(tmp_path, spec.model_dump(mode="json"))
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".json", ".ckpt", ".parquet")]

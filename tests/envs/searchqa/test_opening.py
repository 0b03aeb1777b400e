"""Which retriever a spec opens, and how a spec that makes no sense is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from stepcredit.envs.contract import EnvError
from stepcredit.envs.searchqa.options import SearchOptions
from stepcredit.envs.searchqa.retrieval.bm25 import Bm25Retriever
from stepcredit.envs.searchqa.retrieval.contract import RetrievalError
from stepcredit.envs.searchqa.retrieval.opening import RetrieverSpec, open_retriever
from stepcredit.envs.searchqa.retrieval.server import create_app
from tests.envs.searchqa.engines import FOUR
from tests.envs.searchqa.serving import free_port, serving


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPCREDIT_CACHE", str(tmp_path))
    monkeypatch.delenv("STEPCREDIT_RETRIEVER", raising=False)


def test_bm25_is_the_default_and_gets_its_parameters() -> None:
    assert open_retriever(RetrieverSpec(), FOUR).info == Bm25Retriever(FOUR).info
    tuned = open_retriever(RetrieverSpec(k1=1.2, b=0.75), FOUR)
    assert (tuned.info["k1"], tuned.info["b"]) == ("1.2", "0.75")
    assert tuned.search(["cat"], 3) == Bm25Retriever(FOUR, 1.2, 0.75).search(["cat"], 3)


def test_a_server_is_found_by_its_url_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    local = Bm25Retriever(FOUR)
    with serving(create_app(local)) as url:
        assert open_retriever(RetrieverSpec(engine="http", url=url), None).search(["cat"], 3) == local.search(
            ["cat"], 3
        )
        monkeypatch.setenv("STEPCREDIT_RETRIEVER", f"{url}/retrieve")
        assert open_retriever(RetrieverSpec(engine="http"), None).search(["cat"], 3) == local.search(["cat"], 3)


def test_time_outs_and_retries_reach_the_client() -> None:
    spec = RetrieverSpec(engine="http", url=f"http://127.0.0.1:{free_port()}", retries=0)
    with pytest.raises(RetrievalError, match="in 1 try"):
        open_retriever(spec, None).search(["cat"], 3)


@pytest.mark.parametrize("engine", ["bm25", "lucene", "dense"])
def test_a_local_engine_needs_a_corpus(engine: Any) -> None:
    with pytest.raises(RetrievalError, match=f"retriever {engine} has nothing to search"):
        open_retriever(RetrieverSpec(engine=engine), None)


def test_an_encoder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RetrievalError, match="cannot be loaded"):
        open_retriever(RetrieverSpec(engine="dense", encoder=str(tmp_path)), FOUR)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"engine": "lucene", "k1": 1.5},
        {"engine": "dense", "pooling": "cls", "index": "ivf", "nlist": 7},
        {"engine": "http", "url": "http://host:1", "retries": 2},
        {"engine": "lucene", "index": "bm25"},
        {"engine": "dense", "index": "/data/e5_Flat.index", "nprobe": 4},
    ],
)
def test_a_spec_survives_its_own_json(content: dict[str, Any]) -> None:
    spec = RetrieverSpec.model_validate(content)
    assert RetrieverSpec.model_validate_json(spec.model_dump_json()) == spec
    assert RetrieverSpec.parse(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize(
    ("content", "settings"),
    [
        ({"engine": "lucene"}, {"engine", "k1", "b"}),
        ({"engine": "lucene", "index": "bm25"}, {"engine", "k1", "b", "index"}),
        (
            {"engine": "dense"},
            {
                *("engine", "encoder", "pooling", "query_prefix", "passage_prefix", "max_tokens"),
                *("index", "nlist", "nprobe"),
            },
        ),
        (
            {"engine": "dense", "index": "e5_Flat.index"},
            {"engine", "encoder", "pooling", "query_prefix", "passage_prefix", "max_tokens", "index", "nprobe"},
        ),
    ],
)
def test_only_settings_with_an_effect_are_recorded(content: dict[str, Any], settings: set[str]) -> None:
    assert set(RetrieverSpec.parse(content).model_dump()) == settings


def test_specs_that_name_no_index_are_recorded_as_ever() -> None:
    assert RetrieverSpec.parse({"engine": "lucene"}).model_dump_json() == '{"engine":"lucene","k1":0.9,"b":0.4}'
    assert '"index":"flat","nlist":1024,"nprobe":16' in RetrieverSpec.parse({"engine": "dense"}).model_dump_json()


def test_two_machines_with_the_index_beside_the_corpus_have_one_spec(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = set()
    for machine in ("one", "other"):
        monkeypatch.setenv("STEPCREDIT_DATA", str(tmp_path / machine))
        for index in ("wiki/e5_Flat.index", f"{tmp_path}/{machine}/searchqa/wiki/e5_Flat.index"):
            specs.add(RetrieverSpec(engine="dense", index=index).model_dump_json())
    assert len(specs) == 1
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STEPCREDIT_DATA", "one")
    assert RetrieverSpec(engine="dense", index="one/searchqa/wiki/e5_Flat.index").model_dump_json() in specs
    elsewhere = f"{tmp_path}/e5_Flat.index"
    assert RetrieverSpec(engine="dense", index=elsewhere).index == elsewhere


@pytest.mark.parametrize("engine", ["lucene", "dense"])
def test_an_index_that_is_nowhere_is_one_sentence(engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPCREDIT_DATA", str(tmp_path))
    with pytest.raises(RetrievalError, match=f"no index at {tmp_path}/searchqa/no.index or at no.index; give the path"):
        open_retriever(RetrieverSpec(engine=engine, index="no.index"), FOUR)


def test_a_lucene_folder_is_refused_by_the_dense_engine_before_it_looks_for_an_encoder(tmp_path: Path) -> None:
    with pytest.raises(RetrievalError, match="is a folder, and FAISS's are files; choose engine lucene"):
        open_retriever(RetrieverSpec(engine="dense", index=str(tmp_path), encoder="nobody/nothing"), FOUR)


def test_a_runs_options_refuse_an_index_in_the_same_words() -> None:
    with pytest.raises(EnvError, match=r"^env_options\.retriever: engine bm25 has no setting index; leave it out.*$"):
        SearchOptions.parse({"retriever": {"index": "bm25"}})


def test_words_of_a_command_line_become_numbers() -> None:
    assert RetrieverSpec.parse({"k1": "1.2", "b": "0"}) == RetrieverSpec(k1=1.2, b=0)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"engine": "tantivy"}, r"retriever\.engine: .* but the value is 'tantivy'"),
        ({"k1": -1}, r"retriever\.k1: .* but the value is -1"),
        ({"b": "much"}, r"retriever\.b: .* but the value is 'much'"),
        ({"k1": float("nan")}, r"retriever\.k1: .* finite"),
        ({"engin": "bm25"}, "unknown setting of a retriever 'engin'; did you mean 'engine'"),
        ({"engine": "http", "k1": 1.2}, "retriever: engine http has no setting k1; leave it out"),
        ({"url": "http://host"}, "retriever: engine bm25 has no setting url; leave it out"),
        ({"index": "bm25"}, "retriever: engine bm25 has no setting index; leave it out, or choose another engine"),
        ({"engine": "http", "index": "bm25"}, "retriever: engine http has no setting index; leave it out"),
        ({"engine": "lucene", "index": "ivf"}, "retriever: engine lucene has no ivf index; leave index out, or give"),
        ({"engine": "dense", "index": "e5.index", "nlist": 7}, "retriever: nlist has no effect on an index that is"),
        ({"engine": "dense", "index": ""}, r"retriever\.index: .* at least 1 character"),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(content: dict[str, Any], complaint: str) -> None:
    with pytest.raises(EnvError, match=complaint):
        RetrieverSpec.parse(content)
    with pytest.raises(ValidationError):
        RetrieverSpec.model_validate(content)

"""The server over real HTTP: both public clients' requests, every malformed one, and that nothing brings it down."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.envs.searchqa.retrieval import wire
from stepcredit.envs.searchqa.retrieval.bm25 import Bm25Retriever
from stepcredit.envs.searchqa.retrieval.contract import Hit, RetrievalError
from stepcredit.envs.searchqa.retrieval.server import create_app
from tests.envs.searchqa.engines import FOUR, ODD_QUERIES, ids
from tests.envs.searchqa.serving import serving


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory) -> Bm25Retriever:
    return Bm25Retriever(FOUR, cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def client(retriever: Bm25Retriever) -> Iterator[httpx.Client]:
    with serving(create_app(retriever)) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


def ask(client: httpx.Client, **fields: object) -> Any:
    response = client.post("/retrieve", json=fields)
    assert response.status_code == 200, response.text
    return response.json()["result"]


def refusal(response: httpx.Response) -> str:
    """The sentence of a 4xx answer; the server must still work after it."""
    assert 400 <= response.status_code < 500
    assert list(response.json()) == ["error"]
    sentence: str = response.json()["error"]
    assert "\n" not in sentence
    assert len(sentence) < 300
    return sentence


def test_search_r1s_request_is_answered_in_its_shape(client: httpx.Client, retriever: Bm25Retriever) -> None:
    result = ask(client, queries=["cat", "grass"], topk=3, return_scores=True)
    expected = retriever.search(["cat", "grass"], 3)
    assert [[entry["document"]["id"] for entry in found] for found in result] == [ids(found) for found in expected]
    assert [[entry["score"] for entry in found] for found in result] == [[h.score for h in found] for found in expected]
    assert result[1][0]["document"] == {
        "id": "cow",
        "title": "Cows",
        "text": "Cows eat grass, grass and grass.",
        "contents": '"Cows"\nCows eat grass, grass and grass.',
    }


def test_without_scores_the_documents_come_alone(client: httpx.Client) -> None:
    plain = ask(client, queries=["cat"], topk=2, return_scores=False)
    scored = ask(client, queries=["cat"], topk=2, return_scores=True)
    assert plain == [[entry["document"] for entry in scored[0]]]
    assert ask(client, queries=["cat"], topk=2) == plain


def test_verl_agents_single_query_gets_one_list(client: httpx.Client) -> None:
    single = ask(client, query="cat", topk=3, return_scores=True)
    assert single == ask(client, queries=["cat"], topk=3, return_scores=True)
    assert len(single) == 1


def test_a_query_without_hits_has_an_empty_list(client: httpx.Client) -> None:
    assert ask(client, queries=["the of and", "cat", "zzzz"], topk=1)[::2] == [[], []]


def test_three_passages_are_the_default(client: httpx.Client) -> None:
    wide = "cat dog fox cow"
    assert len(ask(client, query=wide)[0]) == 3
    assert len(ask(client, query=wide, topk=100)[0]) == 4


@pytest.mark.parametrize("query", [query for query in ODD_QUERIES if query.strip()])
def test_odd_queries_are_answered_as_the_engine_does(
    client: httpx.Client, retriever: Bm25Retriever, query: str
) -> None:
    body = wire.request_body([query], 3)
    assert wire.parse_answer(client.post("/retrieve", content=body).content, 1) == retriever.search([query], 3)


def test_the_limits_themselves_are_allowed(client: httpx.Client) -> None:
    assert len(ask(client, queries=["cat"] * 4096, topk=1)) == 4096
    assert len(ask(client, query="cat " * 5000, topk=100)[0]) == 2


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "the body is not JSON"),
        (b"{", "the body is not JSON"),
        (b'{"queries": ["cat"]', "the body is not JSON"),
        (b"\xff\xfe\x00", "the body is not JSON"),
        (b"[" * 100_000, "the body is not JSON"),
        (b"9" * 10_000, "the body is not JSON"),
        (b"null", "should be"),
        (b'["cat"]', "should be"),
        (b"{}", "must have either 'queries' or 'query'"),
        (b'{"query": "cat", "queries": ["cat"]}', "must have either 'queries' or 'query'"),
        (b'{"queries": []}', "queries: list should have at least 1 item"),
        (b'{"queries": ["cat", ""]}', "queries.1: the query is empty"),
        (b'{"query": " \\n\\t"}', "query: the query is empty"),
        (b'{"queries": "cat"}', "queries: input should be a valid list"),
        (b'{"queries": [7]}', "queries.0: input should be a valid string, the value is 7"),
        (b'{"query": ["cat"]}', "query: input should be a valid string"),
        (b'{"query": "cat", "topk": 0}', "topk: input should be greater than or equal to 1, the value is 0"),
        (b'{"query": "cat", "topk": -3}', "topk: input should be greater than or equal to 1"),
        (b'{"query": "cat", "topk": 101}', "topk: input should be less than or equal to 100, the value is 101"),
        (b'{"query": "cat", "topk": 1e300}', "topk: input should be a valid integer"),
        (b'{"query": "cat", "topk": NaN}', "topk: input should be a valid integer"),
        (b'{"query": "cat", "topk": "3"}', "topk: input should be a valid integer"),
        (b'{"query": "cat", "topk": true}', "topk: input should be a valid integer"),
        (b'{"query": "cat", "return_scores": "yes"}', "return_scores: input should be a valid boolean"),
        (b'{"query": "cat", "top_k": 3}', "unknown field 'top_k'; known are queries, query, topk, return_scores"),
        (json.dumps({"query": "x" * 20_001}).encode(), "query: string should have at most 20000 characters"),
        (json.dumps({"queries": ["cat"] * 4097}).encode(), "queries: list should have at most 4096 items"),
    ],
)
def test_a_malformed_request_is_explained(client: httpx.Client, body: bytes, complaint: str) -> None:
    assert complaint in refusal(client.post("/retrieve", content=body))
    assert ask(client, query="cat")


@pytest.mark.parametrize("size", [wire.MAX_BODY_BYTES + 1, 3 * wire.MAX_BODY_BYTES])
def test_a_body_that_is_too_large_is_refused(client: httpx.Client, size: int) -> None:
    response = client.post("/retrieve", content=b" " * size)
    assert response.status_code == 413
    assert "larger than 16777216 bytes; send fewer queries" in refusal(response)
    assert ask(client, query="cat")


def test_an_endless_body_is_cut_off(client: httpx.Client) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b" " * 2**20

    with suppress(httpx.TransportError):  # the server hangs up while the client still sends
        assert client.post("/retrieve", content=endless()).status_code == 413
    assert ask(client, query="cat")


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/retrieve", 405), ("POST", "/", 404), ("GET", "/search", 404)]
)
def test_another_path_or_method_is_explained(client: httpx.Client, method: str, path: str, status: int) -> None:
    response = client.request(method, path)
    assert response.status_code == status
    assert refusal(response).startswith(f"{method} {path} is refused (")
    assert "known are POST /retrieve, GET /health and GET /info" in refusal(response)


def test_a_client_that_hangs_up_in_mid_request_does_no_harm(client: httpx.Client) -> None:
    where = urlsplit(str(client.base_url))
    with socket.create_connection((where.hostname or "", where.port or 0)) as half:
        half.sendall(b'POST /retrieve HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"query"')
    with socket.create_connection((where.hostname or "", where.port or 0)) as noise:
        noise.sendall(b"\x00\x01 not http\r\n\r\n")
    assert ask(client, query="cat")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)
requests = st.fixed_dictionaries(
    {}, optional={name: json_values | st.just("cat") for name in ("query", "queries", "topk", "return_scores")}
)


@given(body=json_values.map(json.dumps).map(str.encode) | requests.map(json.dumps).map(str.encode) | st.binary())
@settings(max_examples=200, deadline=None)
def test_no_body_brings_it_down(client: httpx.Client, body: bytes) -> None:
    response = client.post("/retrieve", content=body)
    assert response.status_code == 200 or refusal(response)
    assert ask(client, query="cat")


def test_health_and_info(client: httpx.Client, retriever: Bm25Retriever) -> None:
    assert client.get("/health").json() == {"status": "ok"}
    info = client.get("/info").json()
    assert retriever.info.items() <= info.items()
    assert info["server"].startswith("stepcredit ")
    assert info["corpus_sha256"] == FOUR.sha256


def test_many_clients_at_once_get_their_own_answers(client: httpx.Client, retriever: Bm25Retriever) -> None:
    words = ["cat", "dog", "fox", "grass", "den", "barks"]
    expected = {word: ids(retriever.search([word], 3)[0]) for word in words}
    where = urlsplit(str(client.base_url)).netloc

    def converse(first: int) -> list[tuple[str, list[str]]]:
        connection = http.client.HTTPConnection(where)
        seen = []
        for number in range(first, first + 30):
            word = words[number % len(words)]
            connection.request("POST", "/retrieve", wire.request_body([word], 3))
            seen.append((word, ids(wire.parse_answer(connection.getresponse().read(), 1)[0])))
        connection.close()
        return seen

    with ThreadPoolExecutor(8) as pool:
        for seen in pool.map(converse, range(8)):
            assert seen == [(word, expected[word]) for word, _ in seen]


class Moody:
    """Fails on the query that names its mood."""

    info: Mapping[str, str] = {"engine": "moody", "corpus_sha256": "0" * 64}

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        if "gone" in queries:
            raise RetrievalError("the index is gone; build it again")
        if "broken" in queries:
            raise KeyError("a bug")
        return [[] for _ in queries]


def test_a_failing_retriever_is_a_503_and_the_server_stays() -> None:
    with serving(create_app(Moody())) as url, httpx.Client(base_url=url, timeout=60) as client:
        gone = client.post("/retrieve", json={"query": "gone"})
        assert (gone.status_code, gone.json()) == (503, {"error": "the index is gone; build it again"})
        broken = client.post("/retrieve", json={"query": "broken"})
        assert (broken.status_code, broken.json()) == (503, {"error": "the search broke (KeyError: 'a bug')"})
        assert ask(client, query="fine") == [[]]

"""The HTTP client against real servers: ours, Search-R1's shape, and servers that fail, stall, die or talk nonsense."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stepcredit.envs.searchqa.corpus import Passage
from stepcredit.envs.searchqa.retrieval import wire
from stepcredit.envs.searchqa.retrieval.bm25 import Bm25Retriever
from stepcredit.envs.searchqa.retrieval.client import HttpRetriever
from stepcredit.envs.searchqa.retrieval.contract import Hit, RetrievalError
from stepcredit.envs.searchqa.retrieval.server import create_app
from tests.envs.searchqa.engines import FOUR, ODD_QUERIES
from tests.envs.searchqa.serving import free_port, serving


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Bm25Retriever:
    return Bm25Retriever(FOUR, cache=tmp_path_factory.mktemp("cache"))


class Scripted:
    """Answers /retrieve with one response after another, the last for ever, and notes what it was asked."""

    def __init__(self, *responses: Callable[[], Response]) -> None:
        self._responses = list(responses)
        self.asked: list[Any] = []
        self.app = Starlette(routes=[Route("/retrieve", self._answer, methods=["POST"])])

    async def _answer(self, request: Request) -> Response:
        self.asked.append(await request.json())
        return (self._responses.pop(0) if len(self._responses) > 1 else self._responses[0])()


def says(body: object, status: int = 200) -> Callable[[], Response]:
    return lambda: JSONResponse(body, status)


FOUND = {"result": [[{"document": {"id": "1", "contents": '"Cats"\nA cat sleeps.'}, "score": 2.5}]]}
CATS = [[Hit(Passage("1", "Cats", "A cat sleeps."), 2.5)]]


def failure(url: str, retries: int = 0, timeout: float = 60.0) -> str:
    with pytest.raises(RetrievalError) as caught:
        HttpRetriever(url, timeout, retries, backoff=0.01).search(["cat"], 3)
    message = str(caught.value)
    assert "\n" not in message
    assert url in message
    return message


def test_it_answers_as_the_engine_behind_the_server(local: Bm25Retriever) -> None:
    queries = [*ODD_QUERIES, "cat", "grass fox", "cat"]
    with serving(create_app(local)) as url:
        remote = HttpRetriever(url)
        assert remote.search(queries, 3) == local.search(queries, 3)
        assert remote.search([], 3) == []


def test_its_info_is_the_same_wherever_the_server_is(local: Bm25Retriever) -> None:
    with serving(create_app(local)) as one, serving(create_app(local, threads=4)) as other:
        info = HttpRetriever(one).info
        assert info == HttpRetriever(f"{other}/retrieve").info
        assert one not in str(info)
    assert local.info.items() <= info.items()


def test_large_batches_are_split(local: Bm25Retriever) -> None:
    script = Scripted(says({"result": [[]] * 64}), says({"result": [[]] * 64}), says({"result": [[]] * 2}))
    with serving(script.app) as url:
        assert HttpRetriever(url).search([f"q{number}" for number in range(130)] + [" "], 2) == [[]] * 131
    assert [len(asked["queries"]) for asked in script.asked] == [64, 64, 2]
    assert script.asked[2] == {"queries": ["q128", "q129"], "topk": 2, "return_scores": True}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"id": "7", "contents": '"Cats"\nA cat\nsleeps.'}, Passage("7", "Cats", "A cat\nsleeps.")),
        ({"id": 7, "contents": "no title"}, Passage("7", "no title", "")),
        ({"id": "7", "title": "T", "text": "x", "contents": "other"}, Passage("7", "T", "x")),
    ],
)
def test_search_r1s_documents_are_understood(document: object, expected: Passage) -> None:
    with serving(Scripted(says({"result": [[{"document": document, "score": 1}]]})).app) as url:
        assert HttpRetriever(url).search(["cat"], 1) == [[Hit(expected, 1.0)]]


def test_documents_without_scores_or_ids_are_told_apart() -> None:
    with serving(Scripted(says({"result": [[{"contents": '"A"\nx'}, {"contents": '"B"\ny'}]]})).app) as url:
        first, second = HttpRetriever(url).search(["cat"], 2)[0]
    assert (first.passage.title, first.score, second.passage.text) == ("A", 0.0, "y")
    assert first.passage.id.startswith("sha256:")
    assert first.passage.id != second.passage.id


def test_a_server_without_info_is_recorded_as_such() -> None:
    with serving(Scripted(says(FOUND)).app) as url:
        assert HttpRetriever(url).info == {
            "engine": "unknown",
            "corpus_sha256": "unknown",
            "server": "one without /info",
        }


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_servers_failure_is_tried_again(status: int) -> None:
    script = Scripted(says({"error": "busy"}, status), says({"error": "busy"}, status), says(FOUND))
    with serving(script.app) as url:
        assert HttpRetriever(url, retries=2, backoff=0.01).search(["cat"], 3) == CATS
    assert len(script.asked) == 3


def test_a_server_that_keeps_failing_is_given_up() -> None:
    script = Scripted(says({"error": "the index is gone"}, 503))
    with serving(script.app) as url:
        message = failure(url, retries=3)
    assert "gave no answer in 4 tries (last: 503: the index is gone)" in message
    assert "start it with `stepcredit serve-retriever` and run the same command again to resume" in message
    assert len(script.asked) == 4


@pytest.mark.parametrize("status", [400, 404, 422])
def test_a_refusal_is_not_tried_again(status: int) -> None:
    script = Scripted(says({"error": "topk is too large"}, status))
    with serving(script.app) as url:
        assert f"refused a request ({status}: topk is too large)" in failure(url, retries=3)
    assert len(script.asked) == 1


def test_our_servers_own_sentence_is_passed_on(local: Bm25Retriever) -> None:
    with serving(create_app(local)) as url, pytest.raises(RetrievalError, match="topk: input should be less than"):
        HttpRetriever(url).search(["cat"], 101)


def test_a_server_that_is_not_there_is_named() -> None:
    assert "gave no answer in 1 try (last: ConnectError" in failure(f"http://127.0.0.1:{free_port()}")


def test_pauses_between_tries_double() -> None:
    started = time.perf_counter()
    with pytest.raises(RetrievalError, match="in 4 tries"):
        HttpRetriever(f"http://127.0.0.1:{free_port()}", retries=3, backoff=0.05).search(["cat"], 3)
    assert time.perf_counter() - started >= 0.05 + 0.1 + 0.2


def test_a_server_that_stalls_is_given_up_after_the_time_out() -> None:
    async def stall(request: Request) -> Response:
        await asyncio.sleep(30)
        return Response()

    with serving(Starlette(routes=[Route("/retrieve", stall, methods=["POST"])])) as url:
        assert "in 2 tries (last: ReadTimeout" in failure(url, retries=1, timeout=0.1)


def test_a_server_killed_in_mid_run_is_waited_for(local: Bm25Retriever) -> None:
    """The second server starts, on the same port, only after the client's next search has begun."""
    port = free_port()
    remote = HttpRetriever(f"http://127.0.0.1:{port}", retries=8, backoff=0.02)
    expected = local.search(["cat"], 3)
    with serving(create_app(local), port):
        assert remote.search(["cat"], 3) == expected
    answers: list[list[list[Hit]]] = []
    searching = threading.Thread(target=lambda: answers.append(remote.search(["cat"], 3)))
    searching.start()
    time.sleep(0.2)
    assert not answers
    with serving(create_app(local), port):
        searching.join()
    assert answers == [expected]


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"<html>It works!</html>", "the body is not JSON"),
        (b"", "the body is not JSON"),
        (b"[" * 100_000, "the body is not JSON"),
        (b"[]", "has no list of lists called 'result'"),
        (b'{"result": 3}', "has no list of lists called 'result'"),
        (b'{"result": [3]}', "has no list of lists called 'result'"),
        (b'{"result": []}', "has 0 results for 1 queries"),
        (b'{"result": [[], []]}', "has 2 results for 1 queries"),
        (b'{"result": [[3]]}', "has the document 3, expected its contents"),
        (b'{"result": [[{"document": {"id": "1"}, "score": 1.0}]]}', "has the document {'id': '1'}"),
        (b'{"result": [[{"document": {"contents": null}, "score": 1.0}]]}', "has the document {'contents': None}"),
    ],
)
def test_a_garbage_answer_is_an_error_that_shows_it(body: bytes, complaint: str) -> None:
    with serving(Scripted(lambda: Response(body)).app) as url:
        message = failure(url)
    assert "does not speak as a retrieval server" in message
    assert complaint in message


@pytest.mark.parametrize("info", ["[]", "nonsense"])
def test_a_garbage_info_is_an_error(info: str) -> None:
    app = Starlette(routes=[Route(wire.INFO, lambda request: Response(info))])
    with serving(app) as url, pytest.raises(RetrievalError, match="does not speak as a retrieval server"):
        _ = HttpRetriever(url).info


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "localhost", "ftp://host", "http://", "http://host:port"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(RetrievalError, match=r"write it as http://127\.0\.0\.1:8000"):
        HttpRetriever(url)


def proxied(monkeypatch: pytest.MonkeyPatch, proxy: str, spared: str = "") -> None:
    for kind in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{kind}_proxy", raising=False)
        monkeypatch.delenv(f"{kind.upper()}_PROXY", raising=False)
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.setenv("no_proxy", spared)


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "nonsense://x", "socks5://127.0.0.1:9", "http://[", "::"])
def test_this_machine_is_reached_without_the_proxy(
    proxy: str, local: Bm25Retriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxied(monkeypatch, proxy)
    with serving(create_app(local)) as url:
        assert HttpRetriever(url, retries=0).search(["cat"], 1) == local.search(["cat"], 1)


def test_other_hosts_are_asked_through_the_proxy(local: Bm25Retriever, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(create_app(local)) as url:
        proxied(monkeypatch, url)
        message = failure("http://retriever.invalid")
    assert f"refused a request through the proxy http_proxy={url} (404: POST /http://retriever.invalid" in message


@pytest.mark.parametrize("proxy", ["nonsense://proxy", "http://proxy:port", "ftp://proxy:1"])
def test_a_proxy_that_is_none_is_one_sentence(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    proxied(monkeypatch, proxy)
    with pytest.raises(RetrievalError) as caught:
        HttpRetriever("http://retriever.invalid")
    assert str(caught.value).startswith(f"the proxy http_proxy={proxy} cannot be used: ")
    assert "\n" not in str(caught.value)


def test_a_proxy_that_refuses_is_named_instead_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    proxied(monkeypatch, f"http://me:secret@127.0.0.1:{free_port()}")
    message = failure("http://retriever.invalid")
    assert "through the proxy http_proxy=http://127.0.0.1:" in message
    assert "secret" not in message
    assert "mend the proxy, unset the variable, or name the host in no_proxy" in message

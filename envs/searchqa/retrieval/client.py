"""A retriever behind HTTP: ours, or any server that speaks as Search-R1's does."""

from __future__ import annotations

import reprlib
import time
from collections.abc import Mapping, Sequence
from functools import cached_property

import httpx

from stepcredit.envs.proxies import Proxy, proxy_of
from stepcredit.envs.searchqa.retrieval import wire
from stepcredit.envs.searchqa.retrieval.contract import Hit, RetrievalError

_BATCH = 64
_LONGEST_PAUSE_S = 30.0
_MEND = "start it with `stepcredit serve-retriever` and run the same command again to resume"


class HttpRetriever:
    """Asks a server. Waits for one that is away for a short while, and gives up on one that stays away.

    Args:
        url: of the server, with or without /retrieve.
        timeout: seconds without a sign of life before a try counts as failed.
        retries: further tries after a connection error, a time-out or a failure of the server.
        backoff: seconds before the second try; doubled for each one after it.

    Raises:
        RetrievalError: the URL is none, or the proxy that the environment names for it cannot be used.
    """

    def __init__(self, url: str, timeout: float = 30.0, retries: int = 5, backoff: float = 0.5) -> None:
        self._url = _base(url)
        self._tries = retries + 1
        self._backoff = backoff
        self._proxy = proxy_of(self._url)
        # With a transport of ours httpx leaves the variables that name proxies alone.
        self._client = httpx.Client(timeout=timeout, transport=_transport(self._proxy))

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """See `Retriever`. Empty queries are answered here, since servers refuse them."""
        hits: list[list[Hit]] = [[] for _ in queries]
        asked = [position for position, query in enumerate(queries) if query.strip()]
        for start in range(0, len(asked), _BATCH):
            batch = asked[start : start + _BATCH]
            answers = self._ask([queries[position] for position in batch], k)
            for position, found in zip(batch, answers, strict=True):
                hits[position] = found
        return hits

    @cached_property
    def info(self) -> Mapping[str, str]:
        """See `Retriever`: what the server says of itself, so that equal servers are equal wherever they run.

        Raises:
            RetrievalError: the server does not answer.
        """
        request = self._client.build_request("GET", f"{self._url}{wire.INFO}")
        response = self._send(request)
        if response.status_code == httpx.codes.NOT_FOUND:
            return {"engine": "unknown", "corpus_sha256": "unknown", "server": f"one without {wire.INFO}"}
        try:
            said = wire.parse_json(self._accepted(response))
        except wire.WireError as error:
            raise self._garbage(error) from error
        if not isinstance(said, dict):
            raise self._garbage(f"{wire.INFO} is no JSON object: {reprlib.repr(said)}")
        return {str(name): str(value) for name, value in said.items()}

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    def _ask(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        body = wire.request_body(queries, k)
        headers = {"Content-Type": "application/json"}
        request = self._client.build_request("POST", f"{self._url}{wire.RETRIEVE}", content=body, headers=headers)
        try:
            return wire.parse_answer(self._accepted(self._send(request)), len(queries))
        except wire.WireError as error:
            raise self._garbage(error) from error

    def _send(self, request: httpx.Request) -> httpx.Response:
        """The server's first answer that is not a failure of its own."""
        fault = ""
        for attempt in range(self._tries):
            if attempt:
                time.sleep(min(self._backoff * 2 ** (attempt - 1), _LONGEST_PAUSE_S))
            try:
                response = self._client.send(request)
            except httpx.RequestError as error:
                fault = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
                continue
            if not response.is_server_error:
                return response
            fault = _complaint(response)
        tries = "1 try" if self._tries == 1 else f"{self._tries} tries"
        mend = _MEND if self._proxy is None else "mend the proxy, unset the variable, or name the host in no_proxy"
        raise RetrievalError(
            f"retrieval server {self._url} gave no answer in {tries}{self._way} (last: {fault}); {mend}"
        )

    def _accepted(self, response: httpx.Response) -> bytes:
        if not response.is_success:
            raise RetrievalError(f"retrieval server {self._url} refused a request{self._way} ({_complaint(response)})")
        return response.content

    @property
    def _way(self) -> str:
        return "" if self._proxy is None else f" through the proxy {self._proxy}"

    def _garbage(self, fault: object) -> RetrievalError:
        return RetrievalError(f"{self._url} does not speak as a retrieval server: {fault}; {_MEND}")


def _transport(proxy: Proxy | None) -> httpx.HTTPTransport:
    if proxy is None:
        return httpx.HTTPTransport()
    try:
        return httpx.HTTPTransport(proxy=proxy.url if "://" in proxy.url else f"http://{proxy.url}")
    except ImportError as error:
        raise _unusable(proxy, "SOCKS needs the package `socksio`") from error
    except (httpx.InvalidURL, ValueError) as error:
        raise _unusable(proxy, "it is not the URL of an http, https or socks5 proxy") from error


def _unusable(proxy: Proxy, reason: str) -> RetrievalError:
    return RetrievalError(f"the proxy {proxy} cannot be used: {reason}; mend or unset the variable, or set no_proxy")


def _base(url: str) -> str:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise RetrievalError(f"{url!r} is not a URL ({error}); write it as http://{wire.HOST}:{wire.PORT}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise RetrievalError(f"{url!r} is not the URL of a server; write it as http://{wire.HOST}:{wire.PORT}")
    return url.rstrip("/").removesuffix(wire.RETRIEVE)


def _complaint(response: httpx.Response) -> str:
    """The status, and the sentence that came with it."""
    try:
        said = wire.parse_json(response.content)
    except wire.WireError:
        said = None
    sentence = said.get("error") if isinstance(said, dict) else None
    shown = sentence if isinstance(sentence, str) and sentence else response.reason_phrase
    return f"{response.status_code}: {shown}"

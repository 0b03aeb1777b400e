"""The retrieval server: one index behind HTTP, for the clients of Search-R1 and verl-agent and for ours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from stepcredit.envs.searchqa.retrieval import wire
from stepcredit.envs.searchqa.retrieval.contract import RetrievalError, Retriever

_DRAINED = 4
"""How many times the largest body is read before an answer; less would cut off clients that send it whole first."""


class _TooLargeError(Exception):
    """A body is above the limit."""


def create_app(retriever: Retriever, threads: int = 2) -> FastAPI:
    """The server as an ASGI application.

    Args:
        threads: how many requests are searched for at a time; the others wait.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="search")
    app = FastAPI(title="stepcredit retrieval server", docs_url=None, redoc_url=None)
    info = {**retriever.info, "server": f"stepcredit {version('stepcredit')}"}

    @app.post(wire.RETRIEVE, openapi_extra=_schema())
    async def retrieve(request: Request) -> Response:
        body = await _body(request)
        loop = asyncio.get_running_loop()
        return _json(await loop.run_in_executor(pool, _answer, retriever, body))

    @app.get(wire.HEALTH)
    async def health() -> Mapping[str, str]:
        return {"status": "ok"}

    @app.get(wire.INFO)
    async def about() -> Mapping[str, str]:
        return info

    _report_errors(app)
    return app


def _answer(retriever: Retriever, body: bytes) -> bytes:
    request = wire.Request.parse(body)
    return wire.answer_body(retriever.search(request.texts, request.topk), with_scores=request.return_scores)


async def _body(request: Request) -> bytes:
    """The whole body, read in pieces.

    Raises:
        _TooLargeError: it is above the limit.
    """
    pieces: list[bytes] = []
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size <= wire.MAX_BODY_BYTES:
            pieces.append(piece)
        else:
            pieces.clear()
        if size > _DRAINED * wire.MAX_BODY_BYTES:
            break
    if size > wire.MAX_BODY_BYTES:
        raise _TooLargeError
    return b"".join(pieces)


def _report_errors(app: FastAPI) -> None:
    """Every error is answered as {"error": one sentence}."""

    @app.exception_handler(wire.WireError)
    async def refuse(_: Request, error: wire.WireError) -> Response:
        return _error(422, str(error))

    @app.exception_handler(RetrievalError)
    async def fail(_: Request, error: RetrievalError) -> Response:
        return _error(503, str(error))

    @app.exception_handler(_TooLargeError)
    async def cut_off(_: Request, error: _TooLargeError) -> Response:
        answer = _error(413, f"the body is larger than {wire.MAX_BODY_BYTES} bytes; send fewer queries at a time")
        answer.headers["Connection"] = "close"
        return answer

    @app.exception_handler(HTTPException)
    async def direct(request: Request, error: HTTPException) -> Response:
        asked = f"{request.method} {request.url.path[:40]}"
        known = f"known are POST {wire.RETRIEVE}, GET {wire.HEALTH} and GET {wire.INFO}"
        return _error(error.status_code, f"{asked} is refused ({error.detail}); {known}")

    @app.exception_handler(ClientDisconnect)
    async def hang_up(_: Request, error: ClientDisconnect) -> Response:
        return _error(400, "the client went away before its request was whole")

    @app.exception_handler(Exception)
    async def break_down(_: Request, error: Exception) -> Response:
        answer = _error(503, f"the search broke ({type(error).__name__}: {error})")
        answer.headers["Connection"] = "close"  # the server drops it: the exception goes on to its log
        return answer


def _error(status: int, sentence: str) -> Response:
    return _json(json.dumps({"error": sentence}).encode(), status)


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json")


def _schema() -> dict[str, Any]:
    schema = wire.Request.model_json_schema()
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}

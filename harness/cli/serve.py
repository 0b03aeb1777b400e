"""The command that serves a retriever over HTTP."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stepcredit.harness.errors import UserError

if TYPE_CHECKING:
    from stepcredit.envs.searchqa.corpus import Corpus
    from stepcredit.envs.searchqa.retrieval.contract import Retriever

_GRACE_S = 5


def serve_retriever(
    engine: Annotated[str, typer.Option("--engine", help="bm25, lucene or dense.")] = "bm25",
    corpus: Annotated[
        Path | None,
        typer.Option(
            "--corpus",
            help="Passages as .jsonl or .jsonl.gz. Default: searchqa/corpus.jsonl.gz in $STEPCREDIT_DATA, "
            "else the generated corpus.",
        ),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Requests searched for at a time.")] = 2,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A setting of the retriever, such as k1=0.9 or encoder=intfloat/e5-base-v2; repeat for several.",
        ),
    ] = None,
) -> None:
    """Serve passages over HTTP: POST /retrieve, GET /health, GET /info. Ctrl-C ends it."""
    from stepcredit.envs.searchqa.retrieval.opening import RetrieverSpec, open_retriever

    spec = RetrieverSpec.parse({**retriever_settings(settings or ()), "engine": engine})
    if spec.engine == "http":
        raise UserError("--engine http has no passages of its own to serve; choose bm25, lucene or dense")
    with _bound(host, port) as listener:
        _serve(open_retriever(spec, _corpus(corpus, os.environ)), listener, threads)


def _serve(retriever: Retriever, listener: socket.socket, threads: int) -> None:
    import uvicorn

    from stepcredit.envs.searchqa.retrieval.server import create_app

    retriever.search(["a first search loads what later ones need"], 1)
    _listen(listener)
    config = uvicorn.Config(
        create_app(retriever, threads),
        access_log=False,
        log_level="warning",
        lifespan="off",  # the app needs none, and a second Ctrl-C would break it off with a traceback
        timeout_graceful_shutdown=_GRACE_S,
    )
    info = retriever.info
    print(f"{_url(listener)} serves {info['engine']} over corpus {info['corpus_sha256'][:12]}", flush=True)
    with suppress(KeyboardInterrupt):  # uvicorn hands Ctrl-C on once it has stopped, unless the shell ignores it
        uvicorn.Server(config).run(sockets=[listener])
    print("stopped")


def _corpus(path: Path | None, environ: Mapping[str, str]) -> Corpus:
    from stepcredit.envs.searchqa.corpus import read_corpus

    if path is not None:
        return read_corpus(path)
    if environ.get("STEPCREDIT_DATA"):
        return read_corpus(Path(environ["STEPCREDIT_DATA"]) / "searchqa" / "corpus.jsonl.gz")
    from stepcredit.envs.searchqa.synthetic import synthetic_corpus

    return synthetic_corpus()


def _bound(host: str, port: int) -> socket.socket:
    """A socket that has the port but does not listen yet: clients that come before the index is there are refused."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # With its protocol: asyncio switches Nagle's algorithm (40 ms per request) off only for sockets that say TCP.
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise _taken(host, port, error) from error
    return listener


def _listen(listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    try:
        listener.listen()
    except OSError as error:
        raise _taken(host, port, error) from error


def _taken(host: str, port: int, error: OSError) -> UserError:
    return UserError(f"cannot listen on {host}:{port} ({error.strerror}); choose another with --host and --port")


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if listener.family == socket.AF_INET6 else f"http://{host}:{port}"


def retriever_settings(settings: Sequence[str]) -> dict[str, str]:
    """From NAME=VALUE, as --set gives them.

    Raises:
        UserError: one has no value.
    """
    pairs = [text.partition("=") for text in settings]
    for name, equals, _ in pairs:
        if not equals:
            raise UserError(f"--set {name!r} lacks a value; write it as --set {name}=VALUE")
    return {name: value for name, _, value in pairs}

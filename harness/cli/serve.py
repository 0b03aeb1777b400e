"""The commands that serve a retriever over HTTP, and that cut its index for several servers."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stepcredit.harness.errors import UserError

if TYPE_CHECKING:
    from stepcredit.envs.searchqa.corpus import Corpus
    from stepcredit.envs.searchqa.retrieval.contract import Retriever

CorpusPath = Annotated[
    Path | None,
    typer.Option(
        "--corpus",
        help="Passages as .jsonl or .jsonl.gz. Default: searchqa/corpus.jsonl.gz in $STEPCREDIT_DATA, "
        "else the generated corpus.",
    ),
]

_GRACE_S = 5
_PATIENCE = {"timeout_s": "20", "retries": "0"}
"""With a shard: whoever asked us tries again, and hears of it before the 30 s are over that it waits for us."""


def serve_retriever(
    urls: Annotated[
        list[str] | None, typer.Argument(metavar="[URL]...", help="With --shards: the servers, in the corpus's order.")
    ] = None,
    shards: Annotated[
        bool, typer.Option("--shards", help="Ask the servers that are named, each with its own part, and merge.")
    ] = False,
    engine: Annotated[str | None, typer.Option("--engine", help="bm25 (the default), lucene or dense.")] = None,
    corpus: CorpusPath = None,
    index: Annotated[
        str | None,
        typer.Option(
            "--index",
            metavar="PATH",
            help="An index of the corpus that is built already: a Lucene folder or a FAISS file.",
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
    pairs = retriever_settings(settings or ())
    if shards:
        _refuse({"--engine": engine, "--corpus": corpus, "--index": index, "--set url": pairs.get("url")}, "--shards")
        opened = _shards(urls or [], pairs)
    elif urls:
        raise UserError(f"{urls[0]!r} has no effect without --shards; leave it out")
    else:
        opened = _engine(engine or "bm25", corpus, index, pairs)
    with _bound(host, port) as listener:
        _serve(opened(), listener, threads)


def shard_index(
    index: Annotated[str, typer.Argument(metavar="INDEX", help="A flat FAISS index of the corpus.")],
    parts: Annotated[int, typer.Option("--parts", metavar="N", help="Parts, one for each server.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the parts, each a folder in it.")],
    corpus: CorpusPath = None,
) -> None:
    """Cut a flat FAISS index and its corpus into parts, one for each server behind `serve-retriever --shards`.

    Together they answer as the whole does. Done in little memory; the same command again does what is missing.
    """
    from stepcredit.envs.searchqa.retrieval.parts import FlatFile, planned, split
    from stepcredit.envs.searchqa.retrieval.prebuilt import find

    whole = FlatFile.open(find(index, os.environ))
    plan = planned(whole, parts, out)
    for part in split(whole, _corpus(corpus, os.environ), plan):
        print(f"{part.folder}: passages {part.places.start + 1} to {part.places.stop}", flush=True)


def _engine(engine: str, corpus: Path | None, index: str | None, pairs: Mapping[str, str]) -> Callable[[], Retriever]:
    from stepcredit.envs.searchqa.retrieval.opening import RetrieverSpec, open_retriever

    if index is not None:
        _refuse({"--set index": pairs.get("index")}, "--index")
        pairs = {**pairs, "index": index}
    spec = RetrieverSpec.parse({**pairs, "engine": engine})
    if spec.engine == "http":
        raise UserError("--engine http has no passages of its own to serve; choose bm25, lucene or dense")
    return lambda: open_retriever(spec, _corpus(corpus, os.environ))


def _shards(urls: Sequence[str], pairs: Mapping[str, str]) -> Callable[[], Retriever]:
    from stepcredit.envs.searchqa.retrieval.opening import RetrieverSpec, open_retriever
    from stepcredit.envs.searchqa.retrieval.sharded import Shard, ShardedRetriever

    specs = [RetrieverSpec.parse({**_PATIENCE, **pairs, "engine": "http", "url": url}) for url in urls]
    return lambda: ShardedRetriever(
        [Shard(url, open_retriever(spec, None)) for url, spec in zip(urls, specs, strict=True)]
    )


def _refuse(given: Mapping[str, object], beside: str) -> None:
    for name, value in given.items():
        if value is not None:
            raise UserError(f"{name} has no effect beside {beside}; leave one of them out")


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
        UserError: one has no value, or two.
    """
    found: dict[str, str] = {}
    for name, equals, value in (text.partition("=") for text in settings):
        if not equals:
            raise UserError(f"--set {name!r} lacks a value; write it as --set {name}=VALUE")
        if name in found:
            raise UserError(f"--set {name} is given twice ({found[name]!r}, {value!r}); leave one of them out")
        found[name] = value
    return found

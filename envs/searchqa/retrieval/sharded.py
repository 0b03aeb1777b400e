"""One retriever over several, each of which has its own part of the corpus."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from heapq import merge
from itertools import islice
from typing import NamedTuple

from stepcredit.envs.searchqa.retrieval import dense
from stepcredit.envs.searchqa.retrieval.contract import Hit, RetrievalError, Retriever

_OF_THE_PART = ("corpus_sha256", "index_sha256")
_OF_THE_SERVER = "server"


class Shard(NamedTuple):
    """A retriever over a part of the corpus, and what messages call it."""

    name: str
    retriever: Retriever


class ShardedRetriever:
    """Asks all shards at once and keeps the best: where they search exactly, what one index over all of it answers.

    Of two equal scores the earlier shard's comes first.

    Args:
        shards: of dense retrievers, whose scores do not depend on what else is in the corpus; in the corpus's order.

    Raises:
        RetrievalError: they are none, not dense, of different encoders or indexes, or two have the same passages; or
            one does not answer.
    """

    def __init__(self, shards: Sequence[Shard]) -> None:
        if not shards:
            raise RetrievalError("there are no shards to ask; name the servers that have the parts of the corpus")
        self._shards = tuple(shards)
        self._info = _merged_info(self._shards)

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """See `Retriever`."""
        with ThreadPoolExecutor(len(self._shards), thread_name_prefix="shard") as pool:
            parts = list(pool.map(lambda shard: shard.retriever.search(queries, k), self._shards))
        return [_best(found, k) for found in zip(*parts, strict=True)]

    @property
    def info(self) -> Mapping[str, str]:
        """See `Retriever`: what the shards have in common, and one hash over theirs, in their order."""
        return self._info


def _best(found: Sequence[Sequence[Hit]], k: int) -> list[Hit]:
    return list(islice(merge(*found, key=lambda hit: -hit.score), k))


def _merged_info(shards: Sequence[Shard]) -> dict[str, str]:
    infos = [dict(shard.retriever.info) for shard in shards]
    for shard, info in zip(shards, infos, strict=True):
        _require_dense(shard, info)
        _require_equal(shards[0], infos[0], shard, info)
    _require_own_parts(shards, infos)
    merged = {name: value for name, value in infos[0].items() if name != _OF_THE_SERVER}
    for name in merged.keys() & set(_OF_THE_PART):
        merged[name] = hashlib.sha256("".join(f"{info[name]}\n" for info in infos).encode()).hexdigest()
    return {**merged, "shards": str(len(shards))}


def _require_dense(shard: Shard, info: Mapping[str, str]) -> None:
    engine = info.get("engine", "unknown")
    if engine != dense.ENGINE:
        raise RetrievalError(
            f"shard {shard.name} has engine {engine}, and only scores of engine {dense.ENGINE} mean the same in every"
            " part of a corpus; serve its part with that one"
        )


def _require_equal(first: Shard, expected: Mapping[str, str], shard: Shard, info: Mapping[str, str]) -> None:
    compared = (expected.keys() | info.keys()) - {*_OF_THE_PART, _OF_THE_SERVER}
    differing = sorted(name for name in compared if expected.get(name) != info.get(name))
    differing += [name for name in _OF_THE_PART if (name in expected) != (name in info)]
    if differing:
        name = differing[0]
        raise RetrievalError(
            f"shard {shard.name} has {name} {info.get(name)!r}, and {first.name} {expected.get(name)!r}; serve all"
            " parts with the same settings"
        )


def _require_own_parts(shards: Sequence[Shard], infos: Sequence[Mapping[str, str]]) -> None:
    holders: dict[str, str] = {}
    for shard, info in zip(shards, infos, strict=True):
        passages = info["corpus_sha256"]
        if passages in holders:
            raise RetrievalError(
                f"shards {holders[passages]} and {shard.name} have the same passages; name each part once"
            )
        holders[passages] = shard.name

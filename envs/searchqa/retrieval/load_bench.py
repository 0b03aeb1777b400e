"""The server under load: `python -m stepcredit.envs.searchqa.retrieval.load_bench [--engine lucene] [--queries 9000]`.

Questions, of STEPCREDIT_DATA or else the generated ones, go over loopback in batches of 64 from 16 clients, twice: as
fast as the clients can, which says how many queries a second the server takes; and at a fixed rate, which says how long
a request then takes. Of 16 clients that never pause, each waits for the 15 others, so that latency alone would only
repeat the throughput.
"""

from __future__ import annotations

import argparse
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from stepcredit.envs.contract import EnvError
from stepcredit.envs.searchqa.retrieval import wire
from stepcredit.envs.searchqa.sources import open_source

CLIENTS = 16
BATCH = 64
TOPK = 3
RATE = 1500

_PAGE = os.sysconf("SC_PAGE_SIZE")
_COMMAND = "import sys; from stepcredit.harness.cli.app import run; sys.exit(run(sys.argv[1:]))"


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of one request.

    Attributes:
        seconds: from when it was due to its last byte.
        resident: bytes of memory that the server held afterwards.
    """

    seconds: float
    ok: bool
    resident: int


@dataclass(frozen=True, slots=True)
class Load:
    """What the clients send.

    Attributes:
        rate: queries a second of all clients together; None sends without a pause.
    """

    url: str
    pid: int
    bodies: Sequence[bytes]
    rate: float | None = None

    def run(self) -> tuple[list[Reply], float]:
        """The replies in the order in which the requests were due, and the seconds that all of them took."""
        started = time.perf_counter()
        with ThreadPoolExecutor(CLIENTS) as pool:
            shares = list(pool.map(lambda client: list(self._converse(client, started)), range(CLIENTS)))
        seconds = time.perf_counter() - started
        ordered = sorted(
            (client + CLIENTS * turn, reply) for client, share in enumerate(shares) for turn, reply in enumerate(share)
        )
        return [reply for _, reply in ordered], seconds

    def _converse(self, client: int, started: float) -> Iterator[Reply]:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        for number in range(client, len(self.bodies), CLIENTS):
            due = started + number * BATCH / self.rate if self.rate else time.perf_counter()
            time.sleep(max(0.0, due - time.perf_counter()))
            ok = _ask(connection, self.bodies[number])
            yield Reply(time.perf_counter() - due, ok, resident_bytes(self.pid))
        connection.close()


def measure(engine: str, queries: int) -> dict[str, float]:
    """Throughput without a pause, and growth of the server's memory meanwhile; latency at `RATE`; errors of both.

    Raises:
        EnvError: the questions cannot be used, or the server does not start.
    """
    bodies = _bodies(queries)
    with _server(engine) as (url, pid):
        Load(url, pid, bodies[:CLIENTS]).run()
        replies, seconds = Load(url, pid, bodies).run()
        paced, _ = Load(url, pid, bodies[: max(CLIENTS, len(bodies) // 5)], RATE).run()
    resident = [reply.resident for reply in replies]
    tenth = max(1, len(resident) // 10)
    return {
        "queries": len(replies) * BATCH,
        "queries_per_s": len(replies) * BATCH / seconds,
        "busy_p50_ms": _percentile_ms(replies, 50),
        "busy_p99_ms": _percentile_ms(replies, 99),
        "paced_queries_per_s": RATE,
        "paced_p50_ms": _percentile_ms(paced, 50),
        "paced_p99_ms": _percentile_ms(paced, 99),
        "errors": sum(not reply.ok for reply in (*replies, *paced)),
        "resident_mb": resident[-1] / 2**20,
        "resident_growth": float(np.mean(resident[-tenth:]) / np.mean(resident[:tenth])) - 1,
    }


def resident_bytes(pid: int) -> int:
    """Memory that the process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE


def _ask(connection: http.client.HTTPConnection, body: bytes) -> bool:
    """Whether the answer is whole. It is not parsed: the clients must leave the machine to the server."""
    try:
        connection.request("POST", wire.RETRIEVE, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        return False
    return response.status == http.client.OK and answer.startswith(b'{"result": [[') and answer.endswith(b"]]}")


def _bodies(queries: int) -> list[bytes]:
    suite = "real" if os.environ.get("STEPCREDIT_DATA") else "synthetic"
    questions = cycle([asked.question for asked in open_source(suite, os.environ).questions("test")])
    batches = (list(islice(questions, BATCH)) for _ in range(-(-queries // BATCH)))
    return [wire.request_body(batch, TOPK) for batch in batches]


@contextmanager
def _server(engine: str) -> Iterator[tuple[str, int]]:
    """A server of its own process on a free port, as URL and process id."""
    arguments = ["serve-retriever", "--engine", engine, "--port", "0"]
    with subprocess.Popen([sys.executable, "-c", _COMMAND, *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ready = process.stdout.readline()
            if not ready:
                raise EnvError("the server did not start; it says why above")
            yield ready.split()[0], process.pid
        finally:
            process.send_signal(signal.SIGINT)


def _percentile_ms(replies: Sequence[Reply], percent: int) -> float:
    return float(np.percentile([1e3 * reply.seconds for reply in replies], percent))


def main() -> None:
    """Print the numbers."""
    parser = argparse.ArgumentParser(description="The retrieval server under load.")
    parser.add_argument("--engine", choices=["bm25", "lucene"], default="bm25")
    parser.add_argument("--queries", type=int, default=20_000)
    choice = parser.parse_args()
    for name, value in measure(choice.engine, choice.queries).items():
        print(f"{name} {value:.4g}")


if __name__ == "__main__":
    main()

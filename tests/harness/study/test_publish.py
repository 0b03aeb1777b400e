"""`stepcredit publish`: what would go, what goes to a hub that listens, and what is refused."""

import base64
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from stepcredit.harness.cli.app import run
from stepcredit.harness.record import files
from stepcredit.harness.record.cell import Cell
from tests.harness.cells import LEAST, run_here, small_spec


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, spec = tmp_path_factory.mktemp("out") / "checkpoints", small_spec(*LEAST, method="grpo")
    run_here(folder, spec.model_dump(mode="json"))
    return folder


class Hub(ThreadingHTTPServer):
    """As much of the hub as takes a dataset: it is made, it says how it wants each file, it takes a commit."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.taken: dict[str, bytes] = {}
        self.made: list[dict[str, Any]] = []
        self.refuses = False

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        assert self.headers["Authorization"] == "Bearer hf_test"
        if self.server.refuses:
            self._answer(403, {"error": "no right to write"})
        elif self.path == "/api/repos/create":
            self.server.made.append(json.loads(body))
            self._answer(200, {"url": f"{self.server.server_name}/datasets/me/mine", "id": "me/mine"})
        elif "/preupload/" in self.path:
            wanted = [{"path": f["path"], "uploadMode": "regular"} for f in json.loads(body)["files"]]
            self._answer(200, {"files": [{**one, "shouldIgnore": False} for one in wanted]})
        else:
            assert "/commit/" in self.path
            for line in body.decode().splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.server.taken[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            self._answer(200, {"commitUrl": f"{self.server.address}/datasets/me/mine/commit/1", "commitOid": "1"})

    def do_GET(self) -> None:
        self._answer(200, {"id": "me/mine", "sha": "0", "siblings": []})

    def _answer(self, code: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Tests are quiet."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.address)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", "hf_test")
        yield server
        server.shutdown()


def below(study: Path) -> dict[str, bytes]:
    """Every file that others need."""
    files_below = (path for path in study.rglob("*") if path.is_file())
    paths = (path for path in files_below if "checkpoints" not in path.relative_to(study).parts)
    return {str(path.relative_to(study)): path.read_bytes() for path in paths if not path.name.startswith(".")}


def test_a_dry_run_names_every_file_and_sends_nothing(
    study: Path, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["publish", str(study), "me/mine", "--dry-run"]) == 0
    *named, last = capsys.readouterr().out.splitlines()
    assert named == sorted(below(study))
    assert last.startswith(f"would be sent to me/mine: 1 run, {len(named)} files, ")
    assert (hub.made, hub.taken) == ([], {})


def test_weights_go_where_they_are_asked_for(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["publish", str(study), "me/mine", "--dry-run", "--checkpoints"]) == 0
    assert "/checkpoints/update-000001.ckpt" in capsys.readouterr().out


def test_what_arrives_is_what_lies_here(study: Path, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["publish", str(study), "me/mine", "--private"]) == 0
    assert capsys.readouterr().out.startswith(f"{hub.address}/datasets/me/mine/commit/1: 1 run, ")
    assert hub.taken == below(study)
    assert hub.made[0]["type"] == "dataset"


def test_what_cannot_be_published_is_one_sentence(
    study: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*words: str) -> str:
        assert run(["publish", *words]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert "'mine' is no name of a dataset on the hub; write it as OWNER/NAME" in refused(str(study), "mine")
    assert "there is no folder" in refused(str(study / "nothing"), "me/mine")
    hub.refuses = True
    assert "the hub did not take me/mine: " in refused(str(study), "me/mine")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("stepcredit.harness.study.publish.get_token", lambda: None)
    assert "the hub wants a token with the right to write: set HF_TOKEN" in refused(str(study), "me/mine")
    folder = Cell(study, small_spec(*LEAST, method="grpo")).folder
    content = files.read_json(folder / "manifest.json")
    files.write_json(folder / "manifest.json", {**content, "status": "running"})
    assert "is not complete; finish it before it is published" in refused(str(study), "me/mine")
    files.write_json(folder / "manifest.json", content)
    shutil.rmtree(folder / "checkpoints")
    assert "--checkpoints has no effect: no run in " in refused(str(study), "me/mine", "--checkpoints")

"""The page of a study: one file, the same bytes every time, nothing fetched, no user's text taken for HTML."""

import base64
import json
import re
import zlib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stepcredit.harness.cli.app import run
from stepcredit.paper.page import write as page
from stepcredit.paper.page.groups import shown
from stepcredit.paper.page.payload import CREDITS
from tests.paper.support import write_study

RESULTS = Path(__file__).parents[2] / "results"


def blob(text: str, name: str) -> Any:
    found = re.search(rf'<script type="text/plain" data-blob="{re.escape(name)}">([^<]*)</script>', text)
    assert found is not None
    return json.loads(zlib.decompress(base64.b64decode(found[1])))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (path,) = page.write_page(RESULTS / "ablations", tmp_path_factory.mktemp("page") / "report.html")
    return path


def test_two_pages_of_one_study_have_the_same_bytes(written: Path, tmp_path: Path) -> None:
    page.write_page(RESULTS / "ablations", tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == written.read_bytes()


def test_it_is_one_file_that_fetches_nothing(written: Path) -> None:
    text = written.read_text()
    assert written.stat().st_size < page.LARGEST
    own = re.sub(r'<script type="text/plain"[^>]*>.*?</script>', "", text, flags=re.DOTALL)
    assert re.findall(r'(?:src|href)="(?!#|data:)([^"]*)"', own) == []
    assert "default-src 'none'" in text


def test_every_held_out_episode_is_in_it(written: Path) -> None:
    kept = blob(written.read_text(), "episodes")
    groups = shown(RESULTS / "ablations").groups
    assert len(kept["runs"]) == sum(len(group.runs) for group in groups)
    for group in groups:
        for own in group.runs:
            rows = kept["runs"][f"{group.tasks}/{group.name}/{own.cell}"]
            frame = own.evaluation(own.spec.updates)
            assert sum(row[2] for row in rows["after"]) == frame["success"].sum()
            assert len(rows["after"]) == len(frame)


def test_tokens_are_those_of_the_file(written: Path) -> None:
    group = next(group for group in shown(RESULTS / "ablations").groups if group.name == "OPD peer_traj")
    own = group.runs[0]
    kept = blob(written.read_text(), f"{group.tasks}/{group.name}/{own.cell}")
    frame = pd.read_parquet(own.folder / CREDITS)
    assert sorted(map(int, kept)) == sorted(frame["update"].unique())
    first = frame[frame["update"] == 0]
    assert len(kept["0"]) == first["trajectory"].nunique()
    tokens = [token for episode in kept["0"] for turn in episode["turns"] for token in turn["tokens"]]
    assert [token[0] for token in tokens] == first["text"].tolist()
    assert [token[2] for token in tokens] == pytest.approx(first["credit"].tolist(), abs=1e-4)
    assert any(episode["hint"] for episode in kept["0"])


def test_tokens_that_do_not_fit_lie_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "LARGEST", 5_000_000)
    first, *beside = page.write_page(RESULTS / "ablations", tmp_path / "report.html")
    assert first.stat().st_size < 5_000_000
    assert beside
    for path in beside:
        call = path.read_text().strip().removeprefix("stepcreditTokens(").removesuffix(");")
        name, text = json.loads(f"[{call}]")
        assert path.stem == re.sub(r"[^\w]|_", "-", name)
        assert "0" in json.loads(zlib.decompress(base64.b64decode(text)))


def test_names_are_text_and_never_markup(tmp_path: Path) -> None:
    strange = "<script>alert(1)</script>"
    folder = write_study(tmp_path / "study", methods=("grpo",), seeds=2)
    for path in folder.glob("*/manifest.json"):
        manifest = json.loads(path.read_text())
        path.write_text(json.dumps(manifest | {"method_label": strange}))
    page.write_page(folder, tmp_path / "report.html")
    assert strange not in (tmp_path / "report.html").read_text()


def test_the_command_says_where_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_study(tmp_path / "study", methods=("grpo", "opd"), seeds=1)
    assert run(["report", str(folder)]) == 0
    assert capsys.readouterr().out == f"report: {folder / 'paper' / 'report.html'}\n"
    assert run(["report", str(tmp_path / "nowhere")]) == 2
    assert "the folder does not exist" in capsys.readouterr().err

"""The page of a study: one file, the same bytes every time, nothing fetched, no user's text taken for HTML."""

import base64
import hashlib
import json
import re
import shutil
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stepcredit.harness.cli.app import run
from stepcredit.paper.errors import PaperError
from stepcredit.paper.page import write as page
from stepcredit.paper.page.groups import shown
from stepcredit.paper.page.html import tables_html
from stepcredit.paper.traces import CREDITS
from tests.paper.support import write_study

RESULTS = Path(__file__).parents[2] / "results"


def blob(text: str, name: str) -> Any:
    found = re.search(rf'<script type="text/plain" data-blob="{re.escape(name)}">([^<]*)</script>', text)
    assert found is not None
    return json.loads(zlib.decompress(base64.b64decode(found[1])))


def blob_names(text: str) -> list[str]:
    return re.findall(r'data-blob="([^"]*)"', text)


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
    assert blob_names(text)
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
    monkeypatch.setattr(page, "LARGEST", 1)
    first, *beside = page.write_page(RESULTS / "ablations", tmp_path / "report.html")
    assert blob_names(first.read_text()) == ["episodes"]
    assert beside
    (apart,) = re.findall('<script type="application/json" id="apart">(.*?)</script>', first.read_text())
    for path in beside:
        call = path.read_text().strip().removeprefix("stepcreditTokens(").removesuffix(");")
        name, text = json.loads(f"[{call}]")
        assert json.loads(apart)[name] == f"report-tokens/{path.name}"
        assert "0" in json.loads(zlib.decompress(base64.b64decode(text)))


def test_numbers_of_examinations_lead_to_no_episodes() -> None:
    content = shown(RESULTS / "reference-searchqa")
    html = {
        table.name: tables_html(replace(content.report, tables=(table,)), content.groups)
        for table in content.report.tables
    }
    assert "#episodes/searchqa-synthetic/GRPO/NQ/after" in html["success"]
    assert [name for name in ("closed-book", "regression", "provenance") if "#episodes" in html[name]] == []


def test_variants_with_equal_values_are_two_groups(tmp_path: Path) -> None:
    for folder, seeds in (("alpha=0.1", 1), ("beta=0.1", 2)):
        write_study(tmp_path / "alfworld-mini" / folder, methods=("stepopsd",), seeds=seeds)
    groups = shown(tmp_path).groups
    assert len({group.name for group in groups}) == 2
    page.write_page(tmp_path, tmp_path / "report.html")
    assert len(blob((tmp_path / "report.html").read_text(), "episodes")["runs"]) == 3


@pytest.mark.parametrize(
    ("column", "value", "complaint"),
    [("credit", "much", "'much' is no number"), ("reward", None, "1 values are missing"), ("teacher", None, "")],
)
def test_tokens_that_are_no_numbers(tmp_path: Path, column: str, value: object, complaint: str) -> None:
    source = next((RESULTS / "ablations").glob("*/hindsight=peer_traj/*opd-s0"))
    folder = Path(
        shutil.copytree(source, tmp_path / "study" / source.name, ignore=shutil.ignore_patterns("checkpoints"))
    )
    frame = pd.read_parquet(folder / CREDITS)
    column_values = frame[column].astype(object)
    column_values.iloc[0 if complaint else slice(None)] = value
    frame.assign(**{column: column_values.astype(str) if value == "much" else column_values}).to_parquet(
        folder / CREDITS
    )
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][CREDITS] = hashlib.sha256((folder / CREDITS).read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    if not complaint:
        assert page.write_page(folder.parent, tmp_path / "report.html")
        return
    with pytest.raises(PaperError, match=complaint):
        page.write_page(folder.parent, tmp_path / "report.html")


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

"""A benchmark of one's own, in a package outside the repository: the README's commands, as they stand."""

import json
import re
from pathlib import Path

import pytest

from stepcredit.harness.cli.app import run
from tests.methods.test_new_method import PIP, ROOT, shell


def readme_commands() -> list[str]:
    section = (ROOT / "envs" / "README.md").read_text().partition("\n## Adding a benchmark\n")[2]
    return section.partition("```sh\n")[2].partition("```")[0].splitlines()


def test_the_readmes_commands_make_a_benchmark_that_keeps_its_promises_and_is_found(tmp_path: Path) -> None:
    new, test_it, show_it = readme_commands()
    out = shell(f"{new}\n{test_it.replace('pip install', PIP)}", tmp_path)
    written, install, test = out.splitlines()[:3]
    assert written.startswith("written: long_corridor/long_corridor.py")
    assert f"{install.strip()} && {test.strip()}" == test_it
    (passed,) = re.findall(r"(\d+) passed", out)
    assert int(passed) > 10
    assert "hallway" not in (tmp_path / "long_corridor" / "long_corridor.py").read_text().lower()

    panel = json.loads(shell(f"{show_it} --json", tmp_path))
    assert (panel["benchmark"], panel["split"], panel["size"]) == ("long_corridor", "test", 20)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("LongCorridor", "benchmark name 'LongCorridor' is no lower-case Python identifier; write it like"),
        ("alfworld", "benchmark name 'alfworld' is taken; choose another"),
        ("numpy", "benchmark name 'numpy' is the name of an installed module"),
    ],
)
def test_unfit_names_are_one_sentence(
    name: str, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["new-benchmark", name, "--out", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line
    assert not list(tmp_path.iterdir())

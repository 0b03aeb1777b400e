"""The wheel: one import name, all its data, and no clash with folders of the user's that are called as ours are."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("envs", "methods", "harness", "paper")
DATA = (
    "envs/alfworld/real_games.json",
    "harness/policies/tiny/model.safetensors",
    "harness/policies/tiny-searchqa/tokenizer.json",
    "paper/published.csv",
    "paper/template.typ",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the wheel of a copy of the sources is installed, as pip does in an environment."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "stepcredit", *ROOMS):
        subprocess.run(["cp", "-a", str(ROOT / name), str(source / name)], check=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    offline = ["--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "wheel", *offline, "-w", str(folder / "dist"), str(source)], check=True)
    (wheel,) = (folder / "dist").glob("stepcredit-*.whl")
    subprocess.run([*pip, "install", *offline, "--target", str(folder / "site"), str(wheel)], check=True)
    return folder / "site"


@pytest.fixture
def users(tmp_path: Path) -> Path:
    """A user's folder with packages of the same names."""
    for room in ROOMS:
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").write_text("raise ImportError('the wrong package')\n")
    return tmp_path


def python(users: Path, site: Path, *words: str) -> str:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(users), str(site)])}
    done = subprocess.run([sys.executable, *words], cwd=users, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_installs_one_package_with_its_data(site: Path) -> None:
    assert {path.name for path in site.iterdir() if not path.name.endswith(".dist-info")} == {"stepcredit", "bin"}
    assert {path.name for path in (site / "stepcredit").iterdir() if path.is_dir()} >= set(ROOMS)
    assert [name for name in DATA if not (site / "stepcredit" / name).is_file()] == []
    modules = {str(path.relative_to(ROOT)) for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    assert [name for name in sorted(modules) if not (site / "stepcredit" / name).is_file()] == []


def test_it_is_imported_beside_folders_of_the_same_names(site: Path, users: Path) -> None:
    code = "import stepcredit.harness.interop.verl as module; print(module.__file__)"
    assert Path(python(users, site, "-c", code).strip()).is_relative_to(site)


def test_it_trains_beside_folders_of_the_same_names(site: Path, users: Path) -> None:
    """Workers are processes of their own, and find the same package."""
    small = ("updates=1", "rollout.tasks=2", "rollout.group=2", "rollout.max_turns=3", "evaluation.size=2")
    settings = [word for setting in small for word in ("--set", setting)]
    python(users, site, "-m", "stepcredit.harness.cli", "train", "--out", "runs", *settings)
    (manifest,) = (users / "runs").glob("*/manifest.json")
    recorded = json.loads(manifest.read_text())
    assert (recorded["status"], recorded["git_commit"]) == ("complete", None)

"""Caches lie where they can be written, in processes whose environment has no such place by itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stepcredit.envs import places
from stepcredit.envs.contract import EnvError

ROOT = Path(__file__).resolve().parents[2]
TAKEN = "/dev/null/nowhere"


def settled(temporary: Path, **variables: str) -> tuple[list[str], str]:
    """Cache, numba, matplotlib and hub folders after `settle` in a fresh process, asked for twice; and what it says."""
    names = [places.CACHE, places.NUMBA, places.MATPLOTLIB, places.HUB]
    code = (
        "import os; from stepcredit.envs import places\n"
        "places.settle(os.environ); root = places.cache_root(os.environ)\n"
        "assert places.cache_root(os.environ) == root\n"
        f"print(root, *[os.environ.get(name, '-') for name in {names[1:]!r}], sep='\\n')"
    )
    bare = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary), **variables}
    done = subprocess.run([sys.executable, "-c", code], env=bare, capture_output=True, text=True, check=True)
    return done.stdout.splitlines(), done.stderr


def test_the_order_of_places(tmp_path: Path) -> None:
    home, xdg, named = tmp_path / "home", tmp_path / "xdg", tmp_path / "named"
    where = {"HOME": str(home)}
    assert settled(tmp_path, **where)[0][0] == str(home / ".cache" / "stepcredit")
    where["XDG_CACHE_HOME"] = str(xdg)
    assert settled(tmp_path, **where)[0][0] == str(xdg / "stepcredit")
    where["STEPCREDIT_CACHE"] = str(named)
    assert settled(tmp_path, **where) == ([str(named), "-", "-", "-"], "")


def test_a_relative_xdg_folder_is_ignored(tmp_path: Path) -> None:
    found, _ = settled(tmp_path, HOME=str(tmp_path), XDG_CACHE_HOME="here")
    assert found[0] == str(tmp_path / ".cache" / "stepcredit")


@pytest.mark.parametrize("home", [TAKEN, "relative"])
def test_without_a_home_caches_are_temporary_and_it_is_said_once(home: str, tmp_path: Path) -> None:
    found, said = settled(tmp_path, HOME=home)
    root = tmp_path / f"stepcredit-{os.getuid()}"
    assert found == [str(root), found[1], str(root / "matplotlib"), str(root / "huggingface")]
    assert said.count(f"caches go to {root}") == 1
    assert "set STEPCREDIT_CACHE" in said


def test_a_named_cache_serves_the_others_too_where_home_cannot(tmp_path: Path) -> None:
    named = tmp_path / "named"
    found, said = settled(tmp_path, HOME=TAKEN, STEPCREDIT_CACHE=str(named))
    assert found[0] == str(named)
    assert found[2:] == [str(named / "matplotlib"), str(named / "huggingface")]
    assert said == ""


def test_variables_that_are_set_are_left_alone(tmp_path: Path) -> None:
    mine = {places.MATPLOTLIB: "/mine", places.HUB: "/hub", places.NUMBA: "/numba"}
    assert settled(tmp_path, HOME=TAKEN, **mine)[0][1:] == ["/numba", "/mine", "/hub"]


def test_nobodys_home_is_refused_by_name() -> None:
    with pytest.raises(EnvError, match="STEPCREDIT_CACHE is '~nobody-of-that-name/x'"):
        places.cache_root({"STEPCREDIT_CACHE": "~nobody-of-that-name/x"})


def test_another_users_temporary_folder_is_not_used(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (tmp_path / f"stepcredit-{os.getuid()}").symlink_to(theirs)
    found, _ = settled(tmp_path, HOME=TAKEN)
    assert Path(found[0]).parent == tmp_path
    assert Path(found[0]).name.startswith("stepcredit-")
    assert list(theirs.iterdir()) == []

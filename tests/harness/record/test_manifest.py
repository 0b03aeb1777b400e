"""What a manifest says of the source: its commit, or why there is none; and of a poorer file system."""

import errno
import fcntl
import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from stepcredit.harness.errors import UserError
from stepcredit.harness.record import files, manifest
from tests.harness.cells import run_here, small_spec

TINY = ("updates=1", "rollout.tasks=1", "rollout.group=2", "rollout.max_turns=2", "evaluation.size=2")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "a").write_text("1")
    for words in ("init -q", "add a", "-c user.name=a -c user.email=a@b commit -qm one"):
        subprocess.run(["git", "-C", str(folder), *words.split()], check=True)
    return folder


def test_a_commit_and_whether_the_code_changed_since(checkout: Path) -> None:
    told = subprocess.run(["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert manifest.source_commit(checkout) == (told.stdout.strip(), False)
    (checkout / "a").write_text("2")
    assert manifest.source_commit(checkout) == (told.stdout.strip(), True)


def test_no_checkout_has_no_commit(tmp_path: Path) -> None:
    assert manifest.source_commit(tmp_path) == (None, None)


def test_a_folder_within_another_checkout_has_none_of_its_own(checkout: Path) -> None:
    (checkout / "inner").mkdir()
    assert manifest.source_commit(checkout / "inner") == (None, None)
    (checkout / "inner" / ".git").mkdir()
    commit, dirty = manifest.source_commit(checkout / "inner")
    assert str(commit).startswith("unknown: fatal: not a git repository")
    assert dirty is None


def test_an_absent_git_is_unknown_with_its_reason(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert manifest.source_commit(checkout) == ("unknown: git is not installed", None)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'fatal: detected dubious ownership' >&2; exit 128", "fatal: detected dubious ownership"),
        ("exit 3", "git ended with status 3"),
        ("kill -9 $$", "git ended with status -9"),
    ],
)
def test_a_git_that_refuses_is_unknown_with_its_reason(
    script: str, reason: str, checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = tmp_path / "bin" / "git"
    refusing.parent.mkdir()
    refusing.write_text(f"#!/bin/sh\n{script}\n")
    refusing.chmod(refusing.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(refusing.parent), prepend=os.pathsep)
    commit, dirty = manifest.source_commit(checkout)
    assert (commit, dirty) == (f"unknown: {reason}", None)
    assert manifest.is_unknown(str(commit))


def test_a_repository_without_a_commit_is_unknown(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert str(manifest.source_commit(tmp_path)[0]).startswith("unknown: ")


def test_variables_lead_to_no_other_repository(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = manifest.source_commit(checkout)
    other = tmp_path / "other"
    subprocess.run(["git", "init", "-q", str(other)], check=True)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR"):
        monkeypatch.setenv(name, str(other / ".git"))
    assert manifest.source_commit(checkout) == expected


def test_a_file_system_without_locks_and_fsync_is_in_the_runs_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small_spec(*TINY, method="grpo")
    run_here(tmp_path / "usual", spec.model_dump(mode="json"))

    def refused(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    for module, name in ((fcntl, "flock"), (fcntl, "lockf"), (os, "fsync")):
        monkeypatch.setattr(module, name, refused)
    run_here(tmp_path / "poor", spec.model_dump(mode="json"))
    usual, poor = (
        json.loads(next((tmp_path / name).glob("*/manifest.json")).read_text()) for name in ("usual", "poor")
    )
    assert "weaker_promises" not in usual
    assert poor["weaker_promises"].keys() == {"lock", "fsync of files", "fsync of folders"}
    assert (poor["spec_sha256"], poor["status"]) == (usual["spec_sha256"], "complete")


@pytest.mark.parametrize("text", ['{"a":' * 5000 + "1" + "}" * 5000, "[" * 100_000, '{"a": [' * 150 + "]}" * 150])
def test_a_deeply_nested_manifest_is_one_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / manifest.NAME).write_text(text)
    with pytest.raises(
        UserError, match=r"manifest\.json is not valid JSON \(nested deeper than 100 levels\)"
    ) as caught:
        manifest.read(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_lock_that_fails_otherwise_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(UserError, match=r"\.lock: Input/output error"), files.exclusive(tmp_path):
        pass

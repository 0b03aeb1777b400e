"""A run's manifest: what it was asked, what it ran on, what came out."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stepcredit.envs.panel import Panel
from stepcredit.harness.errors import UserError
from stepcredit.harness.record import files
from stepcredit.harness.spec import RunSpec
from stepcredit.harness.utilisation import Peak
from stepcredit.methods.recorded import Recorded
from stepcredit.paper.health import Condition

NAME = "manifest.json"
_PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "pyarrow", "pydantic", "alfworld", "textworld")
_SOURCE = Path(__file__).resolve().parents[2]
_UNKNOWN = "unknown: "
_NO_VERSION = f"{_UNKNOWN}its metadata names none"
_GIT_PATIENCE_S = 30.0


class Status(StrEnum):
    """How far a run is."""

    RUNNING = "running"
    COMPLETE = "complete"
    STOPPED = "stopped"
    """It ended before its last update, as its spec's rule says."""

    @property
    def ended(self) -> bool:
        """Whether nothing is left to do."""
        return self is not Status.RUNNING


class PanelRecord(BaseModel):
    """A panel's identity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: str
    size: int
    sha256: str

    @classmethod
    def of(cls, panel: Panel) -> PanelRecord:
        """The record of a panel."""
        return cls(split=panel.split, size=len(panel.tasks), sha256=panel.sha256)


class PolicyRecord(BaseModel):
    """The policy a run started from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: str
    parameters: int
    weights_sha256: str
    provenance: str


class Inputs(Recorded):
    """What a run starts from, besides its spec: two runs with equal specs and inputs give equal bits."""

    LATER = frozenset({"teacher"})

    data: dict[str, str]
    panels: dict[str, PanelRecord]
    subsets: list[str]
    trained_subsets: list[str] = Field(default_factory=list)
    """The subsets that training tasks come from, where those are not all."""
    policy: PolicyRecord
    teacher: PolicyRecord | None = None
    """The other policy that a method learns from."""


class Stopped(BaseModel):
    """Why a run ended before its last update.

    Attributes:
        update: policy updates done.
        condition: of `stepcredit.paper.health`.
        reason: in words.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    update: int
    condition: Condition
    reason: str


class Manifest(Recorded):
    """The manifest of one run, as `manifest.json` holds it."""

    model_config = ConfigDict(populate_by_name=True)
    LATER = frozenset(
        {"teacher", "method_label", "weaker_promises", "stopped", "diverged", "peak", "processes", "broken"}
    )

    schema_version: int = Field(1, alias="schema")
    cell: str
    status: Status
    spec: RunSpec
    spec_sha256: str
    method_label: str = ""
    """How tables and figures spell the method; the name where there is none."""
    replicate_of: str | None
    stepcredit_version: str
    git_commit: str | None
    """`unknown: why` where git gave no answer; None where the source is no checkout."""
    git_dirty: bool | None
    versions: dict[str, str]
    data: dict[str, str]
    panels: dict[str, PanelRecord]
    subsets: list[str]
    trained_subsets: list[str] = Field(default_factory=list)
    grammar: str | None
    device: str
    threads: int
    determinism: dict[str, Any]
    policy: PolicyRecord
    teacher: PolicyRecord | None = None
    update0_rollouts_sha256: str | None = None
    final_weights_sha256: str | None = None
    files: dict[str, str] = Field(default_factory=dict)
    wall_s: float = 0.0
    peak_rss_mb: float = 0.0
    resumed_at: list[int] = Field(default_factory=list)
    processes: dict[str, int] = Field(default_factory=dict)
    """How many shared the updates from that one on; empty where one process made all of them."""
    selection: str = "last checkpoint; no selection"
    weaker_promises: dict[str, str] = Field(default_factory=dict)
    """What the run's file system does not promise, and why: locks, fsync of files or of folders."""
    stopped: Stopped | None = None
    """Of a run with that status."""
    peak: Peak | None = None
    """Of the machine, for its utilisation in `timings.parquet`; null in it where that is not known, and why."""
    diverged: str = ""
    """Of a run that goes on nowhere, as its spec does not say to stop: at which update, and what its loss was."""
    broken: list[str] = Field(default_factory=list)
    """A sentence for each update or evaluation in which environments broke or were given up."""

    @classmethod
    def begin(
        cls,
        cell: str,
        replicate_of: str | None,
        spec: RunSpec,
        method_label: str,
        inputs: Inputs,
        determinism: Mapping[str, Any],
        weaker_promises: Mapping[str, str],
    ) -> Manifest:
        """The manifest of a run that starts now, in this process."""
        commit, dirty = source_commit()
        return cls(
            cell=cell,
            status=Status.RUNNING,
            spec=spec,
            spec_sha256=spec.sha256,
            method_label=method_label,
            replicate_of=replicate_of,
            stepcredit_version=stepcredit_version(),
            git_commit=commit,
            git_dirty=dirty,
            versions=versions(),
            **dict(inputs),
            grammar=inputs.data.get("grammar"),
            device=determinism["device"],
            threads=determinism["threads"],
            determinism=dict(determinism),
            weaker_promises=dict(weaker_promises),
        )

    @property
    def inputs(self) -> Inputs:
        """What the run started from."""
        return Inputs(**{name: getattr(self, name) for name in Inputs.model_fields})

    @property
    def updates(self) -> int:
        """Policy updates of a run that has ended."""
        return self.spec.updates if self.stopped is None else self.stopped.update

    def write(self, folder: Path) -> None:
        """Write it to the run's folder, atomically."""
        files.write_json(folder / NAME, self.model_dump(mode="json", by_alias=True))


def read(folder: Path) -> Manifest | None:
    """The manifest of a run's folder; None where there is none.

    Raises:
        UserError: it is damaged, of another schema, or its spec was edited.
    """
    path = folder / NAME
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise files.explain(error, path) from error
    content = files.read_json(path)
    try:
        found = Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"{path} does not fit this version of stepcredit: {where}: {first['msg']}; choose another folder with --out"
        ) from error
    if found.spec.sha256 != found.spec_sha256:
        raise UserError(
            f"{path}: the spec hashes to {found.spec.sha256[:12]}, but spec_sha256 is {found.spec_sha256[:12]}: it was "
            "edited, or written by another version of stepcredit; restore the file or choose another folder with --out"
        )
    return found


def require(folder: Path) -> Manifest:
    """The manifest of a run's folder.

    Raises:
        UserError: there is none, or as of `read`.
    """
    found = read(folder)
    if found is None:
        raise UserError(f"{folder} holds no run (it has no {NAME}); `stepcredit runs` lists runs")
    return found


def require_same_spec(found: Manifest, spec: RunSpec, folder: Path) -> None:
    """Refuse a folder that another spec wrote.

    Raises:
        UserError: names the first settings that differ.
    """
    if found.spec_sha256 != spec.sha256:
        differing = "; ".join(differences(found.spec.model_dump(mode="json"), spec.model_dump(mode="json")))
        raise UserError(
            f"{folder} was written by another spec ({differing}); choose another folder with --out, or delete this one"
        )


def require_same_inputs(found: Manifest, inputs: Inputs, folder: Path) -> None:
    """Refuse a folder whose run started from other weights or data.

    Raises:
        UserError: names what differs.
    """
    if found.inputs != inputs:
        differing = "; ".join(differences(found.inputs.model_dump(), inputs.model_dump()))
        raise UserError(
            f"{folder} started from other weights or data ({differing}); choose another folder with --out, "
            "or delete this one"
        )


def require_same_platform(found: Manifest, now: Manifest, folder: Path) -> None:
    """Refuse to continue a run where it would not reach the same bits.

    Raises:
        UserError: names what differs.
    """
    before = {"versions": found.versions, "determinism": found.determinism}
    after = {"versions": now.versions, "determinism": now.determinism}
    if before != after:
        raise UserError(
            f"{folder} was begun with other versions or settings ({'; '.join(differences(before, after))}) and would "
            "not resume to the same bits; restore them, or delete this folder to start it again"
        )


def differences(there: Mapping[str, Any], here: Mapping[str, Any], limit: int = 3) -> list[str]:
    """`path: value there, value here` for the first leaves that differ."""
    before, after = _leaves(there), _leaves(here)
    paths = [path for path in sorted(before.keys() | after.keys()) if before.get(path) != after.get(path)]
    shown = [f"{path}: {_short(before.get(path))} there, {_short(after.get(path))} here" for path in paths[:limit]]
    return shown + ([f"{len(paths) - limit} more"] if len(paths) > limit else [])


def stepcredit_version() -> str:
    """The installed distribution's version, or `source` when run from an uninstalled tree."""
    try:
        return importlib.metadata.version("stepcredit") or _NO_VERSION
    except importlib.metadata.PackageNotFoundError:
        return "source"


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package) or _NO_VERSION
        except importlib.metadata.PackageNotFoundError:
            found[package] = "absent"
    return found


def is_unknown(value: str) -> bool:
    """Whether a version or a commit could not be found out; the value says why."""
    return value.startswith(_UNKNOWN)


def source_commit(source: Path = _SOURCE) -> tuple[str | None, bool | None]:
    """Commit of the source tree and whether its code differs from it.

    (None, None) where it is no checkout; (`unknown: why`, None) where git does not answer.
    """
    try:
        (source / ".git").stat()
    except (FileNotFoundError, NotADirectoryError):
        return None, None
    except OSError as error:
        return f"{_UNKNOWN}{source / '.git'}: {error.strerror}", None
    try:
        commit = _git(source, "rev-parse", "--verify", "HEAD")
    except _GitError as error:
        return f"{_UNKNOWN}{error}", None
    try:
        return commit, bool(_git(source, "status", "--porcelain", "--untracked-files=no", "--", ".", ":!results"))
    except _GitError:
        return commit, None


class _GitError(Exception):
    """Git gave no answer: why."""


def _git(source: Path, *arguments: str) -> str:
    command = ["git", "-C", str(source), *arguments]
    try:
        done = subprocess.run(command, env=_git_environment(source), capture_output=True, timeout=_GIT_PATIENCE_S)
    except FileNotFoundError as error:
        raise _GitError("git is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise _GitError(f"git did not answer in {error.timeout:.0f} s") from error
    except OSError as error:
        raise _GitError(f"git cannot be run ({error.strerror})") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip() or f"git ended with status {done.returncode}"
        raise _GitError(said.splitlines()[0])
    return done.stdout.decode(errors="replace").strip()


def _git_environment(source: Path) -> dict[str, str]:
    """Without variables such as GIT_DIR, which lead to other repositories; no folder above the source is asked."""
    inherited = os.environ.items()
    kept = {name: value for name, value in inherited if name.startswith("GIT_CONFIG") or not name.startswith("GIT_")}
    return {**kept, "GIT_CEILING_DIRECTORIES": str(source.parent), "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        leaves.update(_leaves(value, f"{path}.") if isinstance(value, Mapping) else {path: value})
    return leaves


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 40 else text[:12] + "..."

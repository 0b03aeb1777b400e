"""The fields of a run's manifest that tables and figures are made from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stepcredit.paper.errors import PaperError

MANIFEST = "manifest.json"


class Section(BaseModel):
    """Base: frozen; fields that the paper does not need are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class RolloutRecord(Section):
    """How training trajectories were drawn."""

    tasks: int
    group: int
    max_turns: int
    max_observation_tokens: int | None = None
    max_response_tokens: int
    max_context_tokens: int
    temperature: float


class EvaluationRecord(Section):
    """How the held-out panel was sampled."""

    split: str
    every: int
    temperature: float
    samples: int = 1
    luck: Literal["shared", "by_seed"] = "shared"
    seed: int


class OptimRecord(Section):
    """The optimiser's settings."""

    lr: float


class SpecRecord(Section):
    """What determined the run."""

    model: str
    benchmark: str
    suite: str
    train_split: str
    env_options: dict[str, Any] = {}
    method: str
    method_options: dict[str, Any] = {}
    seed: int
    updates: int
    rollout: RolloutRecord
    optim: OptimRecord
    evaluation: EvaluationRecord

    @property
    def tasks_name(self) -> str:
        """Benchmark and suite, as tables call them."""
        return f"{self.benchmark}-{self.suite}"

    def samples_at(self, update: int) -> int:
        """Episodes of each task in the evaluation after that update."""
        return self.evaluation.samples if update in (0, self.updates) else 1


class PanelRecord(Section):
    """A canonical list of tasks."""

    split: str
    size: int
    sha256: str


class PanelsRecord(Section):
    """The tasks trained on and the tasks evaluated on."""

    train: PanelRecord
    eval: PanelRecord


class PolicyRecord(Section):
    """The weights that every run of the study starts from."""

    preset: str
    parameters: int | None = None
    weights_sha256: str | None = None


class StoppedRecord(Section):
    """Why a run ended before its last update."""

    update: int
    reason: str


class Manifest(Section):
    """A run's identity and provenance. `raw_spec` is the spec as written, every field of it."""

    schema_: Literal[1] = Field(alias="schema")
    cell: str
    status: Literal["running", "complete", "stopped"]
    spec: SpecRecord
    raw_spec: dict[str, Any]
    spec_sha256: str
    method_label: str = ""
    replicate_of: str | None = None
    stepcredit_version: str
    peak_rss_mb: float | None = None
    git_commit: str | None = None
    git_dirty: bool | None = None
    versions: dict[str, str] = {}
    panels: PanelsRecord
    data: dict[str, str] = {}
    subsets: tuple[str, ...] = ()
    trained_subsets: tuple[str, ...] = ()
    grammar: str | None = None
    device: str | None = None
    threads: int | None = None
    policy: PolicyRecord
    update0_rollouts_sha256: str | None = None
    final_weights_sha256: str | None = None
    files: dict[str, str] = {}
    selection: str
    stopped: StoppedRecord | None = None


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the run in `folder`.

    Raises:
        PaperError: it is missing, is no JSON, lacks a field, or its spec or cell do not belong together.
    """
    path = folder / MANIFEST
    manifest = _parse(path)
    if manifest.cell != folder.name:
        raise PaperError(f"{path} says cell {manifest.cell!r}, but its folder is {folder.name!r}; rename it back")
    canonical = json.dumps(manifest.raw_spec, sort_keys=True, separators=(",", ":"))
    seen = hashlib.sha256(canonical.encode()).hexdigest()
    if seen != manifest.spec_sha256:
        raise PaperError(
            f"{path}: the spec hashes to {seen[:12]}, but spec_sha256 is {manifest.spec_sha256[:12]}; "
            "the spec was edited after the run: restore the file or run the cell again"
        )
    return manifest


def _parse(path: Path) -> Manifest:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise PaperError(f"{path} is nested too deeply for a manifest; restore it") from error
    except FileNotFoundError as error:
        raise PaperError(
            f"{path} is missing: {path.parent.name!r} holds results without a manifest; "
            "run the cell again or remove the folder"
        ) from error
    except (OSError, ValueError) as error:
        raise PaperError(f"{path} cannot be read as JSON ({error}); restore it or run the cell again") from error
    if not isinstance(content, dict):
        raise PaperError(f"{path} holds {type(content).__name__} instead of an object; run the cell again")
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise PaperError(f"{path} holds half a character ({error.object[error.start]!r}); restore it") from error
    try:
        return Manifest.model_validate(content | {"raw_spec": content.get("spec")})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PaperError(
            f"{path}, field {where!r}: {first['msg']} (seen: {first['input']!r:.80}); "
            "the file was written by another version: run the cell again"
        ) from error

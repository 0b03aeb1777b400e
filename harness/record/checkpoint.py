"""Checkpoints: everything a run has reached, in one file that is whole or absent.

A file is a fixed-size header with the SHA-256 of the rest, then a torch archive of plain values and tensors.
No random state is kept: every draw has a named seed (`stepcredit.harness.seeds`).
"""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from torch import Tensor

from stepcredit.harness.errors import UserError
from stepcredit.harness.record import files
from stepcredit.harness.record.manifest import Stopped
from stepcredit.harness.record.rows import EpisodeRow, TimingRow, UpdateRow, dump_rows, load_rows

FOLDER = "checkpoints"
KEPT = 2
"""Checkpoints of a run that goes on."""
_FAMILY = b"stepcredit checkpoint "
_MAGIC = _FAMILY + b"2 "
_HEADER_BYTES = len(_MAGIC) + 64 + 1
_NAME = re.compile(r"update-(\d{6})\.ckpt")


@dataclass(slots=True)
class RunState:
    """What a run has recorded after `update` policy updates.

    Attributes:
        update: policy updates done.
        episodes: rows so far, in the order in which they were made; likewise `updates` and `timings`.
        resumed_at: updates at which the run was continued after an interruption.
        stopped: why it goes no further; found again from the rows, or by the update that diverged, and not kept.
        processes: how many share the updates from that one on; empty where one has made all of them.
        broken: a sentence for each update or evaluation in which environments broke.
    """

    update: int = 0
    episodes: list[EpisodeRow] = field(default_factory=list)
    updates: list[UpdateRow] = field(default_factory=list)
    timings: list[TimingRow] = field(default_factory=list)
    resumed_at: list[int] = field(default_factory=list)
    stopped: Stopped | None = None
    processes: dict[int, int] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    @property
    def sharing(self) -> int:
        """How many processes share the updates now."""
        return next(reversed(self.processes.values()), 1)

    def share(self, processes: int) -> None:
        """Note that so many share the updates from here on."""
        if processes != self.sharing:
            self.processes[self.update] = processes

    @property
    def evaluated(self) -> int:
        """The update of the last evaluation; -1 before the first."""
        return next((row.update for row in reversed(self.episodes) if row.phase == "eval"), -1)


@dataclass(frozen=True, slots=True)
class SavedWeights:
    """What training changes: the model, AdamW's state, and by name the teachers that follow the model.

    A finished run keeps the model alone.
    """

    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Any] | None = None
    kept: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)


def save(cell: Path, spec_sha256: str, state: RunState, weights: SavedWeights) -> Path:
    """Write the checkpoint atomically. The last one before it stays, older ones make room first.

    Raises:
        UserError: disk full or no permission; the last checkpoint is untouched.
    """
    folder = cell / FOLDER
    files.make_folder(folder)
    path = folder / f"update-{state.update:06d}.ckpt"
    for old in [other for other in available(cell) if other != path][: 1 - KEPT]:
        files.discard(old)
    with files.atomic(path) as file:
        file.write(b"\0" * _HEADER_BYTES)
        body = _HashingWriter(file)
        body.save(_plain(spec_sha256, state, weights))
        file.seek(0)
        file.write(_MAGIC + body.digest.hexdigest().encode() + b"\n")
    return path


def settle(cell: Path, spec_sha256: str, state: RunState, weights: SavedWeights) -> None:
    """Keep of a run that has ended its last weights alone; what only a next update would need goes.

    Raises:
        UserError: disk full or no permission; the run can still be ended.
    """
    last = save(cell, spec_sha256, state, SavedWeights(weights.model))
    for old in available(cell):
        if old != last:
            files.discard(old)


def available(cell: Path) -> list[Path]:
    """Checkpoints of a run, oldest first.

    Raises:
        UserError: their folder cannot be read.
    """
    folder = cell / FOLDER
    try:
        return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise files.explain(error, folder) from error


def find(cell: Path, update: int | None = None) -> Path:
    """The checkpoint after `update` updates, or the last one.

    Raises:
        UserError: the run keeps none of that number.
    """
    kept = available(cell)
    if not kept:
        raise UserError(f"{cell / FOLDER} holds no checkpoint; train the run again with `stepcredit train` to make one")
    if update is None:
        return kept[-1]
    numbers = {update_of(path): path for path in kept}
    if update not in numbers:
        raise UserError(f"{cell / FOLDER} keeps the checkpoints of updates {sorted(numbers)}, not {update}")
    return numbers[update]


def update_of(path: Path) -> int:
    """Policy updates done before the checkpoint, from its name."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise UserError(f"{path} is not a checkpoint: its name should be update-000000.ckpt with the update's number")
    return int(match[1])


def load(path: Path, spec_sha256: str) -> tuple[RunState, SavedWeights]:
    """Read a checkpoint, on the CPU, after checking its hash and whose it is.

    Raises:
        UserError: truncated, corrupt, or of another spec.
    """
    try:
        with path.open("rb") as file:
            _verify(file, path)
            content = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise files.explain(error, path) from error
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise _damaged(path, str(error).splitlines()[0]) from error
    if content["spec_sha256"] != spec_sha256:
        raise UserError(
            f"{path} belongs to spec {content['spec_sha256'][:12]}, not to {spec_sha256[:12]}; choose another folder"
        )
    state = RunState(
        update=content["update"],
        episodes=load_rows(content["episodes"], EpisodeRow),
        updates=load_rows(content["updates"], UpdateRow),
        timings=load_rows(content["timings"], TimingRow),
        resumed_at=content["resumed_at"],
        processes=content.get("processes", {}),
        broken=content.get("broken", []),
    )
    return state, SavedWeights(content["model"], content["optimizer"], content["kept"])


class _HashingWriter:
    """A sink for torch that hashes what passes through."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._failure: OSError | None = None
        self.digest = hashlib.sha256()

    def save(self, content: Mapping[str, Any]) -> None:
        """Write the content as a torch archive.

        Raises:
            OSError: the file could not be written; torch reports that as an error of its own, which says nothing.
        """
        try:
            torch.save(content, cast(BinaryIO, self))
        except RuntimeError as error:
            raise self._failure or error from error

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        try:
            return self._file.write(data)
        except OSError as error:
            self._failure = error
            raise

    def flush(self) -> None:
        self._file.flush()


def _plain(spec_sha256: str, state: RunState, weights: SavedWeights) -> dict[str, Any]:
    return {
        "spec_sha256": spec_sha256,
        "update": state.update,
        "model": dict(weights.model),
        "optimizer": None if weights.optimizer is None else dict(weights.optimizer),
        "kept": {name: dict(own) for name, own in weights.kept.items()},
        "episodes": dump_rows(state.episodes),
        "updates": dump_rows(state.updates),
        "timings": dump_rows(state.timings),
        "resumed_at": list(state.resumed_at),
        **({"processes": dict(state.processes)} if state.processes else {}),
        **({"broken": list(state.broken)} if state.broken else {}),
    }


def _verify(file: BufferedReader, path: Path) -> None:
    header = file.read(_HEADER_BYTES)
    if header.startswith(_FAMILY) and not header.startswith(_MAGIC):
        raise UserError(f"{path} was written by another version of stepcredit; train the run in a new folder")
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        raise _damaged(path, "its header is missing")
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != header[len(_MAGIC) : -1].decode("ascii", "replace"):
        raise _damaged(path, "its contents do not match its SHA-256")
    file.seek(_HEADER_BYTES)


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(
        f"checkpoint {path} is damaged ({reason}); delete this one file and run the same command again: "
        "the run continues from the checkpoint before it, or from the start"
    )

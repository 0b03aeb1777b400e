"""A study's or a run's folder on the Hugging Face hub, as a dataset: what its tables can be made from again."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError

from stepcredit.harness import tracking
from stepcredit.harness.errors import UserError
from stepcredit.harness.record import checkpoint, manifest
from stepcredit.harness.record.cell import discover, verify_files

_OURS_ALONE = {".lock", ".built.json"}
_KIND = "dataset"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Parcel:
    """What goes to the hub.

    Attributes:
        folder: where it lies here.
        files: paths below it, sorted.
        size: bytes of them all.
        runs: complete runs among them, each checked against its manifest.
    """

    folder: Path
    files: tuple[str, ...]
    size: int
    runs: int


def parcel_of(folder: Path, *, checkpoints: bool = False) -> Parcel:
    """All files of a study or a run, with the weights only where they are asked for.

    Raises:
        UserError: no run there, one that is not complete, a file that its manifest does not vouch for, or weights are
            asked for and no run has them.
    """
    runs = discover(folder)
    if not runs:
        raise UserError(f"{folder} holds no run; `stepcredit runs` lists runs")
    for run in runs:
        found = manifest.read(run)
        if found is None or not found.status.ended:
            raise UserError(f"{run} is not complete; finish it before it is published, or publish other runs alone")
        verify_files(found, run)
    paths = sorted(_kept(folder, checkpoints=checkpoints))
    if checkpoints and not any(checkpoint.FOLDER in path.relative_to(folder).parts for path in paths):
        raise UserError(f"--checkpoints has no effect: no run in {folder} has its weights here; leave it out")
    return Parcel(folder, tuple(str(path.relative_to(folder)) for path in paths), _size(paths), len(runs))


def publish(parcel: Parcel, repository: str, *, private: bool) -> str:
    """Send it; a dataset of that name is made where there is none.

    Returns:
        The address of the commit.

    Raises:
        UserError: no token, a name that the hub does not take, or an answer of the hub's that is none.
    """
    require_name(repository)
    if get_token() is None:
        raise UserError("the hub wants a token with the right to write: set HF_TOKEN, or run `hf auth login`")
    hub = HfApi()
    try:
        hub.create_repo(repository, repo_type=_KIND, private=private, exist_ok=True)
        done = hub.upload_folder(
            repo_id=repository,
            repo_type=_KIND,
            folder_path=parcel.folder,
            allow_patterns=[glob.escape(name) for name in parcel.files],
            commit_message=f"{parcel.folder.name}: {parcel.runs} runs of stepcredit",
        )
    except (HfHubHTTPError, OSError) as error:
        raise UserError(f"the hub did not take {repository}: {str(error).splitlines()[0]}") from error
    return done.commit_url


def require_name(repository: str) -> None:
    """Refuse what is not OWNER/NAME.

    Raises:
        UserError: it is not.
    """
    if not _NAME.fullmatch(repository):
        raise UserError(f"{repository!r} is no name of a dataset on the hub; write it as OWNER/NAME")


def _kept(folder: Path, *, checkpoints: bool) -> Iterator[Path]:
    for path in folder.rglob("*"):
        hidden = path.name in _OURS_ALONE or path.suffix == ".tmp"
        left_out = {tracking.FOLDER} if checkpoints else {tracking.FOLDER, checkpoint.FOLDER}
        if path.is_file() and not hidden and left_out.isdisjoint(path.relative_to(folder).parts):
            yield path


def _size(paths: Sequence[Path]) -> int:
    return sum(path.stat().st_size for path in paths)

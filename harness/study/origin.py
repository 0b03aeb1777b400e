"""Writes down which command fills a study's folder."""

from __future__ import annotations

from pathlib import Path

from stepcredit.harness.record import files
from stepcredit.paper.origin import NAME, Origin, read_origin


def record(study: Path, command: str) -> None:
    """Add the command to the study's record, if it is not in it already.

    Raises:
        UserError: the folder cannot be made or written, or another process has held its lock for seconds.
        PaperError: the record is damaged.
    """
    files.make_folder(study)
    with files.exclusive(study):
        before = read_origin(study)
        after = before.followed_by(command, str(study)) if before else Origin(folder=str(study), commands=(command,))
        if after != before:
            files.write_json(study / NAME, after.model_dump(mode="json", by_alias=True))

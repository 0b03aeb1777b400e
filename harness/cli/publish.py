"""`stepcredit publish`: results where others can read them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def publish(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A study, or one run.")],
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The dataset on the hub.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new dataset a private one.")] = False,
    checkpoints: Annotated[bool, typer.Option("--checkpoints", help="The last weights of the runs too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and send nothing.")] = False,
) -> None:
    """Put a study, or a run, on the Hugging Face hub: manifests, rows, tables, so that others can rebuild its paper.

    Every run is first checked against the hashes in its manifest.
    """
    from stepcredit.harness.study import publish as hub
    from stepcredit.harness.words import counted

    hub.require_name(repository)
    parcel = hub.parcel_of(folder, checkpoints=checkpoints)
    what = f"{counted(parcel.runs, 'run')}, {counted(len(parcel.files), 'file')}, {parcel.size / 1e6:.1f} MB"
    if dry_run:
        for path in parcel.files:
            print(path)
        print(f"would be sent to {repository}: {what}")
        return
    print(f"{hub.publish(parcel, repository, private=private)}: {what}")

"""A cell of the run matrix: one spec, one folder, and how far it is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from stepcredit.harness.errors import UserError
from stepcredit.harness.record import files, manifest
from stepcredit.harness.record.manifest import Manifest
from stepcredit.harness.spec import RunSpec

EPISODES = "episodes.parquet"
UPDATES = "updates.parquet"
TIMINGS = "timings.parquet"
CREDITS = "credits.parquet"
PROBES = "probes.parquet"
RESULTS = (EPISODES, UPDATES, TIMINGS, CREDITS, PROBES)
"""Files of a run that has ended, whose hashes are in its manifest."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of a study. `copy` marks a replicate, made to show that the bits are the same."""

    study: Path
    spec: RunSpec
    copy: bool = False

    @property
    def original(self) -> str:
        """The name without the replicate's suffix."""
        spec = self.spec
        model = re.sub(r"[^\w.@-]+", "-", spec.model).strip("-.")  # it may be a path, or an id with a slash
        return f"{spec.benchmark}-{spec.suite}-{model}-{spec.method}-s{spec.seed}"

    @property
    def name(self) -> str:
        """Its folder's name."""
        return f"{self.original}-again" if self.copy else self.original

    @property
    def replicate_of(self) -> str | None:
        """The cell it repeats."""
        return self.original if self.copy else None

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self.study / self.name

    def ended(self) -> bool:
        """Whether its results are all there, up to its last update or to where its spec's rule stopped it.

        Raises:
            UserError: a finished file is missing or damaged.
        """
        found = manifest.read(self.folder)
        if found is None or not found.status.ended:
            return False
        verify_files(found, self.folder)
        return True


def verify_files(found: Manifest, folder: Path) -> None:
    """Check a finished run's files against the hashes in its manifest.

    Raises:
        UserError: one is missing or differs.
    """
    for name, expected in found.files.items():
        path = folder / name
        seen = files.sha256_of(path)
        if seen != expected:
            raise UserError(
                f"{path} is damaged: its sha256 is {seen[:12]}, the manifest says {expected[:12]}; restore it, "
                f"or delete {folder} and run the same command again"
            )


def discover(root: Path) -> list[Path]:
    """Folders of runs at `root`, or up to three levels below it, sorted.

    Raises:
        UserError: there is no such folder.
    """
    if not root.is_dir():
        raise UserError(f"there is no folder {root}; give the folder of a study, such as results/reproduce")
    found = (path.parent for depth in ("", "*/", "*/*/", "*/*/*/") for path in root.glob(depth + manifest.NAME))
    return sorted(folder for folder in found if folder.name != "paper")

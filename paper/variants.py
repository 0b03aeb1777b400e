"""A folder of studies: variants that differ in some settings, each with runs of methods and seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from stepcredit.paper.errors import PaperError
from stepcredit.paper.manifest import MANIFEST, read_manifest
from stepcredit.paper.results import Run, Skipped, Study, left_out, load_study
from stepcredit.paper.statistics import Estimate, change, paired_difference, success_rate

CREDIT = "credit"
"""The folder of credit studies, beside the variants."""


@dataclass(frozen=True)
class Variant:
    """The runs of one combination of settings.

    Attributes:
        axes: name -> value, as the folder has them; empty where nothing is crossed.
    """

    axes: dict[str, str]
    study: Study

    @property
    def tasks(self) -> str:
        """Benchmark and suite."""
        return self.study.manifest.spec.tasks_name


@dataclass(frozen=True)
class Cell:
    """A method under a variant: its runs."""

    variant: Variant
    method: str

    @property
    def label(self) -> str:
        """How tables spell the method."""
        return self.variant.study.label(self.method)

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """By seed."""
        return self.variant.study.of(self.method)

    @cached_property
    def final(self) -> pd.DataFrame:
        """Held-out episodes after training."""
        return pd.concat([run.evaluation(run.spec.updates) for run in self.runs], ignore_index=True)

    @cached_property
    def initial(self) -> pd.DataFrame:
        """Those before it."""
        return pd.concat([run.evaluation(0) for run in self.runs], ignore_index=True)

    @property
    def after(self) -> Estimate | None:
        """Success after training."""
        return success_rate(self.final)

    @property
    def change(self) -> Estimate | None:
        """Success after less before, same seeds and tasks."""
        return change(self.final, self.initial)

    def beyond(self, other: Cell | None) -> Estimate | None:
        """Success after training less the other's, same seeds and tasks."""
        return None if other is None else paired_difference(self.final, other.final)


@dataclass(frozen=True)
class Collection:
    """Variants, in the order of their folders, and what is left out."""

    name: str
    variants: tuple[Variant, ...]
    skipped: tuple[Skipped, ...]

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """Benchmarks and suites."""
        return tuple(dict.fromkeys(variant.tasks for variant in self.variants))

    def cells(self, tasks: str, axes: Sequence[str]) -> list[Cell]:
        """The methods of every variant with exactly these axes, method by method."""
        fits = [v for v in self.variants if v.tasks == tasks and sorted(v.axes) == sorted(axes)]
        found = [Cell(variant, method) for variant in fits for method in variant.study.methods]
        order = list(dict.fromkeys(cell.method for cell in found))
        return sorted(found, key=lambda cell: order.index(cell.method))

    def baseline(self, tasks: str) -> Cell | None:
        """GRPO's runs without any axis, or None."""
        return next((cell for cell in self.cells(tasks, ()) if cell.method == "grpo"), None)


def is_collection(folder: Path) -> bool:
    """Whether the folder holds studies rather than runs."""
    if not folder.is_dir() or any((path / MANIFEST).exists() for path in folder.iterdir() if path.is_dir()):
        return False
    return (folder / CREDIT).is_dir() or any(True for _ in _study_folders(folder))


def load_collection(folder: Path) -> Collection:
    """Every variant that has complete runs.

    Raises:
        PaperError: a damaged file, or runs that do not belong in one table.
    """
    found, skipped = [], list[Skipped]()
    for path in _study_folders(folder):
        name = str(path.relative_to(folder))
        left = [own for run in _runs(path) if (own := left_out(run.name, read_manifest(run))) is not None]
        if len(left) == len([*_runs(path)]):
            stopped = "".join(f"; {own.cell} was {own.reason}" for own in left if own.stopped)
            skipped.append(Skipped(name, f"no complete run{stopped}"))
            continue
        study = load_study(path)
        found.append(Variant(_axes(path.relative_to(folder)), study))
        skipped += [Skipped(f"{name}/{own.cell}", own.reason) for own in study.skipped]
    _require_one_start(found)
    return Collection(folder.name, tuple(found), tuple(skipped))


def _require_one_start(variants: Sequence[Variant]) -> None:
    """Variants of the same tasks are compared: same panel, same weights at the start."""
    first: dict[str, Variant] = {}
    for variant in variants:
        other = first.setdefault(variant.tasks, variant)
        own, known = variant.study.manifest, other.study.manifest
        if (own.panels, own.policy, own.spec.evaluation) != (known.panels, known.policy, known.spec.evaluation):
            raise PaperError(
                f"variants {own.cell} and {known.cell} of {variant.tasks} have other panels, evaluations or weights; "
                "keep them in folders of their own"
            )


def _study_folders(folder: Path) -> Iterator[Path]:
    """Folders below that hold runs, in order."""
    for path in sorted(folder.rglob("*")):
        if path.is_dir() and "paper" not in path.parts and next(_runs(path), None) is not None:
            yield path


def _runs(path: Path) -> Iterator[Path]:
    return (child for child in sorted(path.iterdir()) if child.is_dir() and (child / MANIFEST).is_file())


def _axes(relative: Path) -> dict[str, str]:
    """Of a folder such as alfworld-mini/hindsight=foreign."""
    pairs = (part.partition("=") for own in relative.parts[1:] for part in own.split("+"))
    return {name: value for name, _, value in pairs}

"""The runs of a folder, as the page shows them: a group for each method, or each variant of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stepcredit.paper.capability import capability_tables
from stepcredit.paper.collection import collection_report
from stepcredit.paper.report import Report, report_of
from stepcredit.paper.results import Run, Study, load_study
from stepcredit.paper.variants import Collection, is_collection, load_collection


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone.

    Attributes:
        name: as a table's row has it: the method, and what the variant is set to.
        tasks: benchmark and suite.
        subsets: of the benchmark, in its order.
    """

    name: str
    tasks: str
    subsets: tuple[str, ...]
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Shown:
    """What a page is made of."""

    report: Report
    groups: tuple[Group, ...]


def shown(folder: Path) -> Shown:
    """A study of methods, or a folder of such studies.

    Raises:
        PaperError: the folder cannot be shown as it is.
    """
    if is_collection(folder):
        return Shown(collection_report(folder), tuple(_of_collection(load_collection(folder))))
    study = load_study(folder)
    return Shown(report_of(study, capability_tables(study, folder)), tuple(_of_study(study)))


def _of_study(study: Study, values: Sequence[str] = ()) -> list[Group]:
    return [
        Group(
            " ".join((study.label(method), *values)),
            study.manifest.spec.tasks_name,
            study.subsets,
            study.of(method),
        )
        for method in study.methods
    ]


def _of_collection(collection: Collection) -> list[Group]:
    return [
        group for variant in collection.variants for group in _of_study(variant.study, tuple(variant.axes.values()))
    ]

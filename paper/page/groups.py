"""The runs of a folder, as the page shows them: a group for each method, or each variant of one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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

    def key(self, run: Run) -> str:
        """What the page's script calls one of its runs."""
        return f"{self.tasks}/{self.name}/{run.cell}"


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
        return Shown(collection_report(folder), _distinct(_of_collection(load_collection(folder))))
    study = load_study(folder)
    return Shown(report_of(study, capability_tables(study, folder)), _distinct(_of_study(study)))


def _of_study(study: Study, axes: Mapping[str, str] | None = None) -> list[tuple[Mapping[str, str], Group]]:
    own, tasks = axes or {}, study.manifest.spec.tasks_name
    names = {method: " ".join((study.label(method), *own.values())) for method in study.methods}
    return [(own, Group(name, tasks, study.subsets, study.of(method))) for method, name in names.items()]


def _of_collection(collection: Collection) -> list[tuple[Mapping[str, str], Group]]:
    return [own for variant in collection.variants for own in _of_study(variant.study, variant.axes)]


def _distinct(found: Sequence[tuple[Mapping[str, str], Group]]) -> tuple[Group, ...]:
    """A label and values name a group, as its row does; where they would name two, method and axes are said too."""
    names = Counter((group.tasks, group.name) for _, group in found)
    return tuple(
        group if names[group.tasks, group.name] == 1 else replace(group, name=_whole_name(axes, group))
        for axes, group in found
    )


def _whole_name(axes: Mapping[str, str], group: Group) -> str:
    first = group.runs[0]
    settings = [f"{axis}={value}" for axis, value in axes.items()]
    return " ".join((first.manifest.method_label or first.spec.method, f"({first.spec.method})", *settings))

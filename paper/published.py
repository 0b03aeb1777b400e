"""Published numbers beside the study's, where model, benchmark and subset are the same; from `published.csv`."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib.resources import files

from pydantic import TypeAdapter

from stepcredit.paper.aggregates import final_success, initial_success, subset_columns
from stepcredit.paper.results import Study
from stepcredit.paper.tables import BEFORE, Cell, Quoted, Table, interval_notes, scored, setting_note

MODELS = {
    "qwen2.5-1.5b": "Qwen2.5-1.5B-Instruct",
    "qwen2.5-3b": "Qwen2.5-3B-Instruct",
    "qwen2.5-7b": "Qwen2.5-7B-Instruct",
    "qwen3-1.7b": "Qwen3-1.7B",
}
"""What papers call the presets."""
BENCHMARKS = {"alfworld": ("ALFWorld", "ALFWorld-unseen"), "searchqa": ("Search-QA",)}
REAL = "real"
HERE = "this study"
_UNTRAINED = frozenset({"vanilla", "prompting"})
_RATES = frozenset({"success_rate_pct", "success_rate_pct_mean3seeds", "em_pct"})


@dataclass(frozen=True, slots=True)
class Printed:
    """One value of a paper's table, in percent."""

    paper: str
    arxiv: str
    method: str
    model: str
    benchmark: str
    subset: str
    metric: str
    value: float
    source_url: str

    @property
    def source(self) -> str:
        """Which table it is from."""
        where = f" (arXiv {self.arxiv})" if self.arxiv else ""
        unseen = ", unseen" if self.benchmark.endswith("-unseen") else ""
        return f"{self.paper}{where}{unseen}"


_TABLE = TypeAdapter(Printed)


def published_values() -> list[Printed]:
    """Every rate of `published.csv` that is of whole episodes, in its order; what is a mean of batches is left out."""
    text = files("stepcredit.paper").joinpath("published.csv").read_text(encoding="utf-8")
    rows = [row for row in csv.DictReader(text.splitlines()) if row["metric"] in _RATES]
    return [_TABLE.validate_python(row) for row in rows]


def published_tables(study: Study) -> list[Table]:
    """A row for each method here, and for each paper that prints the same one; nothing where none does."""
    columns = subset_columns(study)
    known = [own for own in published_values() if _of_this_setting(study, own) and own.subset in columns]
    labels = {BEFORE: [initial_success(study, subset) for subset in columns]}
    labels |= {study.label(m): [final_success(study, m, subset) for subset in columns] for m in study.methods}
    rows: list[tuple[Cell, ...]] = []
    for label, estimates in labels.items():
        theirs = [own for own in known if _same_method(label, own.method)]
        if theirs:
            rows.append((label, HERE, *map(scored, estimates)))
            rows += [(label, source, *cells) for source, cells in _by_source(theirs, columns)]
    if not rows:
        return []
    notes = (
        setting_note(study),
        "Published: as printed, in percent, without an interval; how many tasks and seeds they are of is often not "
        "said, so no difference to them is computed. Sources stand in paper/published.csv; `stepcredit audit` says "
        "what such a value can be.",
        *interval_notes(estimate for estimates in labels.values() for estimate in estimates),
    )
    title = f"Published, and reproduced here: {study.score.lower()} (%)"
    return [Table("published", title, ("Method", "Source", *columns), tuple(rows), notes)]


def _of_this_setting(study: Study, own: Printed) -> bool:
    spec = study.manifest.spec
    on_the_hub = spec.model.rpartition("/")[2].partition("@")[0]
    if spec.suite != REAL or MODELS.get(spec.model, on_the_hub) != own.model:
        return False
    unseen = own.benchmark.endswith("-unseen")
    return own.benchmark in BENCHMARKS.get(spec.benchmark, ()) and (not unseen or "unseen" in spec.evaluation.split)


def _same_method(label: str, printed: str) -> bool:
    if label == BEFORE:
        return printed.casefold() in _UNTRAINED
    return printed.casefold() == label.casefold()


def _by_source(values: list[Printed], columns: tuple[str, ...]) -> list[tuple[str, tuple[Cell, ...]]]:
    """Each table that prints the method, its values in the columns' places."""
    found: dict[str, dict[str, Quoted]] = {}
    for own in values:
        found.setdefault(own.source, {}).setdefault(own.subset, Quoted(own.value))
    return [(source, tuple(map(cells.get, columns))) for source, cells in found.items()]

"""Commands that list: runs, panel, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stepcredit.harness.cli import options


def runs(
    root: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Folder of a study, or of several.")] = Path(
        "results"
    ),
    as_json: options.Json = False,
) -> None:
    """List runs: how far each is, and how it did on the held-out panel before and after training."""
    from stepcredit.harness.cli.display import print_table
    from stepcredit.harness.cli.outcome import readable
    from stepcredit.harness.study.listing import run_listing

    found = run_listing(root)
    print_table(found if as_json else [readable(record) for record in found], as_json)


def panel(
    benchmark: Annotated[str, typer.Argument(help="Benchmark.")] = "alfworld",
    suite: options.Suite = None,
    split: Annotated[str | None, typer.Option("--split", help="Default: the one that is evaluated.")] = None,
    size: options.Size = None,
    per_subset: options.PerSubset = None,
    panel_seed: Annotated[int, typer.Option("--panel-seed", help="Which sub-panel of that size.")] = 0,
    as_json: options.Json = False,
) -> None:
    """A canonical panel: its tasks, sorted, each once, and the hash over their ids and contents."""
    from stepcredit.harness.cli.display import print_panel
    from stepcredit.harness.study.listing import panel_listing

    print_panel(panel_listing(benchmark, suite, split, size, panel_seed, per_subset=per_subset), as_json)


def doctor(as_json: options.Json = False) -> None:
    """Check versions, memory, data, the policy's weights and write permission; exit code 1 if something is wrong."""
    from stepcredit.harness.cli.display import print_doctor
    from stepcredit.harness.study.doctor import examine

    findings = examine(Path.cwd())
    print_doctor(findings, as_json)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)

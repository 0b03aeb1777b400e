"""`stepcredit study`: studies that a file describes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stepcredit.harness.cli import options

if TYPE_CHECKING:
    from stepcredit.harness.credit_study.asked import StudySpec
    from stepcredit.harness.study.file import Variant

study = typer.Typer(
    name="study",
    no_args_is_help=True,
    help="Studies as TOML files: settings, axes that are crossed, seeds. Some come with stepcredit, by name.",
)
_File = Annotated[str, typer.Argument(metavar="STUDY", help="A study that comes with stepcredit, or a TOML file.")]
_Out = Annotated[Path | None, typer.Option("--out", help="Its folder. Default: results/NAME.")]


@study.command("list")
def list_studies(as_json: options.Json = False) -> None:
    """The studies that come with stepcredit."""
    from stepcredit.harness.cli.display import print_table
    from stepcredit.harness.study.file import parse, shipped, text_of, variants

    records = []
    for name in shipped():
        described = parse(text_of(name), name)
        found = variants(described)
        runs = [spec for variant in found for spec in variant.specs]
        credit = len(described.credit)
        records.append({"study": name, "variants": len(found), "runs": len(runs), "credit_studies": credit})
    print_table(records, as_json)


@study.command("show")
def show(
    wanted: _File,
    out: Annotated[Path | None, typer.Option("--out", help="Write it there in place of the screen.")] = None,
) -> None:
    """The file, to be changed into one of your own."""
    from stepcredit.harness.errors import UserError
    from stepcredit.harness.record import files
    from stepcredit.harness.study.file import text_of

    text = text_of(wanted)
    if out is None:
        print(text, end="")
        return
    if out.is_file():
        raise UserError(f"{out} exists already, and may have been changed; remove it, or choose another with --out")
    files.write_bytes(out, text.encode())


@study.command("run")
def run(
    context: typer.Context,
    wanted: _File,
    out: _Out = None,
    jobs: options.Jobs = None,
    threads: options.Threads = 1,
    device: options.Device = "auto",
    track: options.Track = None,
    ray: options.Ray = False,
    processes: options.Processes = 1,
) -> None:
    """Train what is missing; what is complete stays, what was interrupted goes on."""
    from shlex import quote

    from stepcredit.harness.cli.credit_study import study_credit
    from stepcredit.harness.cli.study import resources, run_studies
    from stepcredit.harness.credit_study.study import is_complete
    from stepcredit.harness.study import origin
    from stepcredit.harness.study.file import credit_studies, parse, text_of, variants

    described = parse(text_of(wanted), wanted)
    folder = out or Path("results") / described.name
    found = variants(described)
    given = resources(jobs, threads, device, described.model, track or (), ray=ray, processes=processes)
    if not found:
        _refuse_idle({"--track": track, "--ray": ray, "--processes": processes > 1})
    asked = credit_studies(described)
    _print_status(folder, found, asked, as_json=False)
    if found:
        run_studies(folder, {folder / variant.name: variant.specs for variant in found}, given, context.obj)
    for name, spec in asked.items():
        if not is_complete(spec, folder / name):
            origin.record(folder, context.obj)
            print(study_credit(spec, folder / name, jobs, threads, device).verdict)
    print(f"results: {folder}; next: stepcredit study status {quote(wanted)} --out {quote(str(folder))}")


@study.command("status")
def status(wanted: _File, out: _Out = None, as_json: options.Json = False) -> None:
    """How many runs of each variant are complete, and the hours that are left, by the time of those that are."""
    from stepcredit.harness.errors import UserError
    from stepcredit.harness.study.file import credit_studies, parse, text_of, variants

    described = parse(text_of(wanted), wanted)
    folder = out or Path("results") / described.name
    if folder.is_file():
        raise UserError(f"{folder} is a file; give the study's folder with --out")
    _print_status(folder, variants(described), credit_studies(described), as_json=as_json)


def _refuse_idle(given: Mapping[str, object]) -> None:
    """Refuse options that a study of credit alone, which trains nothing, does not look at.

    Raises:
        UserError: one was given.
    """
    from stepcredit.harness.errors import UserError

    if idle := [name for name, value in given.items() if value]:
        raise UserError(f"{idle[0]} has no effect on a study of credit alone, which trains nothing; leave it out")


def _print_status(folder: Path, found: Sequence[Variant], asked: Mapping[str, StudySpec], *, as_json: bool) -> None:
    from stepcredit.harness.cli.display import print_table
    from stepcredit.harness.credit_study.study import is_complete
    from stepcredit.harness.study.status import progress

    records = progress(folder, found)
    studies = [_credit_record(name, complete=is_complete(spec, folder / name)) for name, spec in asked.items()]
    print_table([*records, *studies], as_json)
    if not as_json and records:
        left = [record["hours_left"] for record in records]
        hours = "unknown" if None in left else f"{sum(left):.1f}"
        complete, runs = (sum(record[name] for record in records) for name in ("complete", "runs"))
        stopped = sum(record["stopped"] for record in records)
        ended = f"{complete} of {runs} runs complete" + (f", {stopped} stopped before their end" if stopped else "")
        print(f"{folder}: {ended}; hours left, one run at a time: {hours}")


def _credit_record(name: str, *, complete: bool) -> dict[str, Any]:
    """A study of credit, as a run that has no updates to collapse in."""
    hours = 0.0 if complete else None
    return {"variant": name, "runs": 1, "complete": int(complete), "stopped": 0, "with_notes": 0, "hours_left": hours}

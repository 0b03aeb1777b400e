"""The commands together, and how they end: 0 done, 2 bad input, 130 interrupted.

Commands import what they run when they run: `--help` needs neither torch nor data.
"""

from __future__ import annotations

import os
import shlex
import sys
from typing import Annotated, NoReturn

import typer

import stepcredit
from stepcredit.envs import places
from stepcredit.harness.cli import (
    audit,
    bits,
    capability,
    credit_study,
    extend,
    fetch,
    hindsight,
    inspect,
    publish,
    recipe,
    serve,
    show,
    studies,
    study,
    terminal,
    transcript,
    verify,
    work,
)

BAD_INPUT = 2
INTERRUPTED = 130

# typer bundles its own click; the base of its usage errors has no public name.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"stepcredit {stepcredit.__version__}")
        raise typer.Exit


app = typer.Typer(
    name="stepcredit",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Train agents with step-level credit assignment under identical seeds, and report what the seeds say.\n\n"
    "Start with `stepcredit demo` (minutes) or `stepcredit reproduce` (the whole default study). Every run is a "
    "folder with a manifest; the same command again does only what is missing.",
)


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """What holds for no single command."""


app.command()(study.reproduce)
app.command()(study.train)
app.command()(study.demo)
app.command()(study.paper)
app.command()(study.report)
app.command()(audit.audit)
app.command()(audit.explain)
app.command()(audit.export_leaderboard)
app.command()(audit.export)
app.command()(publish.publish)
app.command()(work.evaluate)
app.command()(verify.verify)
app.command()(bits.determinism)
app.command()(capability.capability)
app.command()(serve.serve_retriever)
app.command()(serve.shard_index)
app.command()(fetch.fetch_questions)
app.command()(work.bench)
app.command()(work.warmstart)
app.command()(inspect.runs)
app.command()(show.show)
app.command()(extend.methods)
app.command()(extend.new_method)
app.command()(extend.new_benchmark)
app.add_typer(recipe.recipe)
app.add_typer(studies.study)
app.command()(inspect.panel)
app.command()(transcript.transcript)
app.command()(hindsight.hindsight)
app.command()(credit_study.credit_study)
app.command()(inspect.doctor)


def main() -> NoReturn:
    """Run the command line."""
    terminal.prepare()
    places.settle(os.environ)
    code = run()
    if (reason := terminal.lost()) is not None:
        print(f"stepcredit: standard output cannot be written ({reason}); the work is kept", file=sys.stderr)
        code = code or BAD_INPUT
    sys.exit(code)


def run(arguments: list[str] | None = None) -> int:
    """Run the command and say how it ended."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        code = app(words, standalone_mode=False, obj=shlex.join(["stepcredit", *words])) or 0
        if code == INTERRUPTED:  # typer's own answer to Ctrl-C
            raise KeyboardInterrupt
        return code
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted; run the same command again to resume", file=sys.stderr)
        return INTERRUPTED
    except _UsageError as error:
        sentence = _sentence(error)
        if not sentence:  # no command was given, and the help is printed already
            return 0
        print(f"stepcredit: {sentence}; see --help", file=sys.stderr)
        return BAD_INPUT
    except ValueError as error:
        if not _is_bad_input(error):
            raise
        print(f"stepcredit: {error}", file=sys.stderr)
        return BAD_INPUT


def _sentence(error: Exception) -> str:
    return str(getattr(error, "format_message", error.__str__)()).strip().rstrip(".").replace("\n", " ")


def _is_bad_input(error: ValueError) -> bool:
    from stepcredit.envs.contract import EnvError
    from stepcredit.harness.errors import UserError
    from stepcredit.methods.contract import MethodError
    from stepcredit.paper.errors import PaperError

    return isinstance(error, (UserError, EnvError, MethodError, PaperError))

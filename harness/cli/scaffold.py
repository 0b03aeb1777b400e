"""A package of the user's own with a working method, its registration and its tests."""

from __future__ import annotations

import importlib.util
import keyword
import os
import re
import shutil
from importlib.metadata import entry_points
from pathlib import Path
from string import Template

from stepcredit.harness.errors import UserError
from stepcredit.harness.record.files import explain, make_folder, write_bytes
from stepcredit.methods.registry import GROUP, METHODS

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")

_PYPROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "$package"
version = "0.1.0"
description = "A credit-assignment method for stepcredit"

[project.optional-dependencies]
test = ["pytest>=8", "hypothesis>=6.100"]

[project.entry-points."stepcredit.methods"]
$name = "$name:$title"

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


def new_method(name: str, parent: Path) -> Path:
    """Write the package `parent`/`name`: all of it, or nothing.

    Returns:
        The package's folder.

    Raises:
        UserError: the name is not usable or taken, the folder exists, or cannot be written.
    """
    _require_free(name)
    folder = parent / name
    if folder.exists():
        raise UserError(f"{folder} exists already; choose another name, or another place with --out")
    make_folder(parent)
    title = "".join(word.capitalize() for word in name.split("_"))
    words = {"name": name, "title": title, "package": name.replace("_", "-")}
    texts = {"pyproject.toml": _PYPROJECT, f"{name}.py": _METHOD, f"test_{name}.py": _TEST}
    _write(folder, {file: Template(text).substitute(words) for file, text in texts.items()})
    return folder


def _require_free(name: str) -> None:
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise UserError(f"method name {name!r} is no lower-case Python identifier; write it like 'late_credit'")
    if name in METHODS or name in entry_points(group=GROUP).names:
        raise UserError(f"method name {name!r} is taken; `stepcredit methods` lists all, choose another")
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.origin is not None:  # a folder that only lies around has no origin
        raise UserError(f"method name {name!r} is the name of an installed module, {spec.origin}; choose another")


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

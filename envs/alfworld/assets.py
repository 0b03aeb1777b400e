"""What the installed alfworld wheel knows: domain, grammar, what fits where, goals and their sentences.

The wheel's data and two of its tables are read by path. Importing the package itself would pull in TextWorld and
torch, and create folders in the user's home.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

from stepcredit.envs.alfworld.subsets import Subset
from stepcredit.envs.contract import EnvError

GRAMMAR_VERSION = "2.1.2"

_SUPPORTED = re.compile(r"0\.4\.([2-9]|\d\d+)$")
_FILES = {
    "domain": "data/alfred.pddl",
    "grammar": "data/alfred.twl2",
    "constants": "gen/constants.py",
    "goals": "gen/goal_library.py",
}
_INSTALL = "install it with: pip install 'alfworld>=0.4.2,<0.5'"


@dataclass(frozen=True, slots=True)
class GoalTemplate:
    """One subset's goal.

    Attributes:
        pddl: the problem's last section with fields {obj}, {recep}, {toggle}; carries the parenthesis that closes
            the problem.
        sentences: the task's possible wordings, with the same fields.
    """

    pddl: str
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Assets:
    """The wheel's tables, without sliced objects.

    Attributes:
        version: of the wheel.
        domain: PDDL domain.
        grammar: text grammar (2.1.2).
        fits: receptacle type -> object types that it can hold.
        affords: affordance ("Cleanable", "Heatable", "Coolable", "Sliceable", "Toggleable") -> object types.
        containers: object types that can hold other objects.
        openable: receptacle types that open and close.
        kinds: subset -> kinds of room in which its tasks make sense.
        goals: subset -> goal.
        fingerprints: name of a file that was read -> its sha256.
    """

    version: str
    domain: str
    grammar: str
    fits: Mapping[str, frozenset[str]]
    affords: Mapping[str, frozenset[str]]
    containers: frozenset[str]
    openable: frozenset[str]
    kinds: Mapping[Subset, frozenset[str]]
    goals: Mapping[Subset, GoalTemplate]
    fingerprints: Mapping[str, str]


@cache
def load_assets() -> Assets:
    """The assets of the installed wheel.

    Raises:
        EnvError: the wheel is missing, incomplete or of a version that does not speak grammar 2.1.2.
    """
    spec = importlib.util.find_spec("alfworld")
    if spec is None or not spec.submodule_search_locations:
        raise EnvError(f"the package alfworld is not installed; {_INSTALL}")
    try:
        version = importlib.metadata.version("alfworld")
    except importlib.metadata.PackageNotFoundError as error:
        where = spec.submodule_search_locations[0]
        raise EnvError(f"the package alfworld at {where} carries no version; {_INSTALL}") from error
    return read_assets(Path(spec.submodule_search_locations[0]), version)


def read_assets(package: Path, version: str) -> Assets:
    """The assets of the wheel unpacked at `package`.

    Raises:
        EnvError: see `load_assets`.
    """
    if not _SUPPORTED.match(version):
        raise EnvError(f"alfworld {version} at {package} is of another version than 0.4.2; {_INSTALL}")
    paths = {name: package / relative for name, relative in _FILES.items()}
    missing = [str(path) for path in paths.values() if not path.is_file()]
    if missing:
        raise EnvError(f"alfworld {version} is incomplete, {missing[0]} is missing; {_INSTALL} --force-reinstall")
    grammar = paths["grammar"].read_text(encoding="utf-8")
    if "move {o} to {r}" not in grammar:
        raise EnvError(
            f"{paths['grammar']} is not grammar {GRAMMAR_VERSION} (no rule 'move {{o}} to {{r}}'); {_INSTALL}"
        )
    constants, library = _run(paths["constants"]), _run(paths["goals"])
    return Assets(
        version=version,
        domain=paths["domain"].read_text(encoding="utf-8"),
        grammar=grammar,
        fits={kind: _whole(objects) for kind, objects in constants.VAL_RECEPTACLE_OBJECTS.items()},
        affords={key: _whole(objects) for key, objects in constants.VAL_ACTION_OBJECTS.items()},
        containers=frozenset(constants.MOVABLE_RECEPTACLES),
        openable=frozenset(constants.OPENABLE_CLASS_LIST) - frozenset(constants.MOVABLE_RECEPTACLES),
        kinds={subset: frozenset(constants.GOALS_VALID[subset.task_type]) for subset in Subset},
        goals={subset: _goal(library.gdict[subset.task_type]) for subset in Subset},
        fingerprints={
            _FILES[name]: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in sorted(paths.items())
        },
    )


def _run(path: Path) -> ModuleType:
    """The module at `path`, executed outside its package and not registered."""
    spec = importlib.util.spec_from_file_location(f"_alfworld_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise EnvError(f"{path} cannot be loaded as Python; {_INSTALL} --force-reinstall")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _whole(objects: set[str]) -> frozenset[str]:
    return frozenset(name for name in objects if not name.endswith("Sliced"))


def _goal(entry: Mapping[str, str | list[str]]) -> GoalTemplate:
    # The library writes "?o # object", for a formatter that ALFRED applies later.
    return GoalTemplate(pddl=str(entry["pddl"]).replace("#", "-"), sentences=tuple(entry["templates"]))

"""The law of the rooms: a room imports only rooms on the floors below its own."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "stepcredit"

# From the ground up: a floor is a tuple of rooms, a room the names of what lies in it. A name stands for the module and
# for all below it, unless a longer name says otherwise; `*` stands for the rest of the package.
FLOORS: dict[str, tuple[tuple[str, ...], ...]] = {
    "methods": (
        ("contract recorded trajectory",),
        ("advantages arms checks gaps hindsight shaping spans",),
        ("*",),  # the methods, a file each
        ("registry",),
        ("laws",),
    ),
    "envs": (
        ("contract disk family naming notice panel plain_json proxies",),
        ("places",),
        (
            "alfworld.actions alfworld.assets alfworld.clause_search alfworld.conditions alfworld.pddl "
            "alfworld.phrases alfworld.reference alfworld.rooms alfworld.subsets alfworld.text",
            "searchqa.answers searchqa.cache_folder searchqa.corpus searchqa.jsonl searchqa.literals searchqa.metrics "
            "searchqa.parquet searchqa.questions searchqa.records searchqa.text",
            "diagnostic.process",
        ),
        (
            "alfworld.game alfworld.generator alfworld.goal alfworld.record alfworld.searcher alfworld.sources",
            "searchqa.hub searchqa.layouts searchqa.loaders searchqa.placing searchqa.splits",
            "searchqa.synthetic",
            "diagnostic.puzzles",
        ),
        ("alfworld.engine alfworld.identity alfworld.oracle alfworld.world", "searchqa.sources"),
        ("searchqa.retrieval",),
        ("alfworld", "searchqa", "diagnostic"),
        ("*",),  # the registry of benchmarks
    ),
    "harness": (
        ("determinism device energy errors progress seeds spec utilisation words",),
        ("interop", "recipes"),
        ("model",),
        ("engine",),
        ("episodes", "record"),
        ("capability", "fidelity", "setup", "tracking"),
        ("run", "warmstart"),
        ("credit_study", "imitation"),
        ("bench", "study"),
        ("cli",),
    ),
    "paper": (
        ("crossed errors files health manifest origin styles words",),
        ("checks coverage statistics", "audit"),
        ("parquet", "unchanged"),
        ("results",),
        ("aggregates", "traces", "variants"),
        ("tables",),
        ("drift", "figures", "inspect_log", "leaderboard", "render"),
        ("ailments", "arms", "capability", "compare", "cost", "credit", "knobs", "published", "secondary"),
        ("checklist",),
        ("report",),
        ("crossings", "document", "explain"),
        ("collection",),
        ("build", "page"),
    ),
}
ABOVE = {"harness": {"envs", "methods", "paper"}}  # what a package may import of the others


def modules() -> dict[str, Path]:
    """Every module's name below the package, and its file."""
    found = {}
    for top in FLOORS:
        for path in (ROOT / top).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imported(path: Path) -> Iterator[str]:
    """Our own modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            own = name.removeprefix(f"{PACKAGE}.")
            if own != name:
                yield own if own in MODULES else own.rpartition(".")[0]
            else:
                assert name.split(".")[0] not in FLOORS, f"{path} imports {name} without {PACKAGE}"


def room_of(module: str) -> tuple[str, int]:
    """The room that a module lies in, and its floor."""
    top, _, rest = module.partition(".")
    rooms = {room: floor for floor, rooms in enumerate(FLOORS[top]) for room in rooms}
    holders = {name: room for room in rooms for name in room.split()}
    fitting = [name for name in holders if name == "*" or f"{rest}.".startswith(f"{name}.")]
    assert fitting, f"{module} lies in no room: name its room in the table of this test"
    room = holders[max(fitting, key=lambda name: len(name.strip("*")))]
    return room, rooms[room]


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"harness", "paper"}))
def test_a_room_imports_only_rooms_below_it(module: str) -> None:
    top, (room, floor) = module.partition(".")[0], room_of(module)
    for other in imported(MODULES[module]):
        other_top = other.partition(".")[0]
        if other_top != top:
            assert other_top in ABOVE.get(top, set()), f"{module} imports {other} of another package"
            continue
        other_room, other_floor = room_of(other)
        assert other_room == room or other_floor < floor, f"{module} imports {other}, which is not below it"


def test_the_table_names_no_room_that_is_not_there() -> None:
    for top, floors in FLOORS.items():
        for name in " ".join(room for floor in floors for room in floor).split():
            assert name == "*" or f"{top}.{name}" in MODULES, f"{top}.{name} is in the table alone"


def test_the_law_refuses_an_import_that_runs_up(tmp_path: Path) -> None:
    file = tmp_path / "low.py"
    file.write_text("def late():\n    from stepcredit.harness.run.train import train\n")
    assert list(imported(file)) == ["harness.run.train"]
    assert room_of("harness.run.train")[1] > room_of("harness.engine.contract")[1]


def test_the_paper_reads_files_without_torch() -> None:
    for name, path in MODULES.items():
        if name.startswith("paper"):
            assert "torch" not in {node.split(".")[0] for node in _anything(path)}, name


def _anything(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)

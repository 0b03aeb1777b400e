"""Episodes of a run with their credit, token by token, as `credits.parquet` keeps them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import isnan
from pathlib import Path

from stepcredit.harness.errors import UserError
from stepcredit.harness.record import cell, manifest
from stepcredit.harness.record.manifest import Manifest
from stepcredit.harness.record.rows import read_rows
from stepcredit.harness.record.traces import TokenRow
from stepcredit.harness.words import one_of
from stepcredit.methods.hindsight import TaughtConfig
from stepcredit.methods.registry import build, method_names


@dataclass(frozen=True, slots=True)
class TracedTurn:
    """A turn of an episode.

    Attributes:
        read: what the policy read before it and had not read or written earlier.
        tokens: of the response, at least one.
    """

    read: str
    tokens: tuple[TokenRow, ...]

    @property
    def action(self) -> str:
        """As sent to the environment."""
        return self.tokens[0].action

    @property
    def valid(self) -> bool:
        """Whether the environment admitted it."""
        return self.tokens[0].valid

    @property
    def gap(self) -> float | None:
        """Teacher's less student's log-probability of the action with its tags; None without a teacher's."""
        gaps = [token.gap for token in self.tokens if token.span in ("action", "tag")]
        return None if not gaps or isnan(sum(gaps)) else sum(gaps)

    @property
    def weight(self) -> float:
        """The mean over the action with its tags; over the response where there is none."""
        own = [weight_of(token) for token in self.tokens if token.span in ("action", "tag")]
        found = own or [weight_of(token) for token in self.tokens]
        return sum(found) / len(found)


@dataclass(frozen=True, slots=True)
class TracedEpisode:
    """An episode that a run trained on."""

    run: Path
    manifest: Manifest
    hint: str
    turns: tuple[TracedTurn, ...]

    @property
    def first(self) -> TokenRow:
        """Its first token, which says what all of them have in common."""
        return self.turns[0].tokens[0]

    @property
    def scale(self) -> float:
        """The largest weight of a token, either way."""
        return max(abs(weight_of(token)) for turn in self.turns for token in turn.tokens)


def weight_of(token: TokenRow) -> float:
    """What the method put on the token: in the policy gradient, in the auxiliary loss, or on a divergence."""
    return token.credit + sum(part for part in (token.distill, token.target) if not isnan(part))


def arm_of(found: Manifest) -> str | None:
    """What the run's teacher was shown; None for methods without hindsight, or that are not installed here."""
    spec = found.spec
    if spec.method not in method_names():
        return None
    config = build(spec.method, spec.method_options).config
    return str(config.hindsight) if isinstance(config, TaughtConfig) else None


def run_of(root: Path, method: str | None, arm: str | None, seed: int | None) -> tuple[Path, Manifest]:
    """The only run below `root` that fits; one that repeats another is taken where it is the only one.

    Raises:
        UserError: none does, or several do.
    """
    known = [(folder, found) for folder in _below(root) if (found := manifest.read(folder)) is not None]
    if not known:
        raise UserError(f"{root} holds no run; give the folder of a run or of a study")
    wanted = None if method is None else one_of("method", method, dict.fromkeys(f.spec.method for _, f in known))
    fits = [
        (folder, found)
        for folder, found in known
        if wanted in (None, found.spec.method) and arm in (None, arm_of(found)) and seed in (None, found.spec.seed)
    ]
    originals = [(folder, found) for folder, found in fits if found.replicate_of is None]
    if len(originals or fits) == 1:
        return (originals or fits)[0]
    of_all = _listed(folder.relative_to(root) for folder, _ in (fits or known))
    said = "several runs fit" if fits else "no run fits"
    raise UserError(f"{root}: {said}; choose with --method, --arm and --seed, or give one's folder: {of_all}")


def episode(run: Path, found: Manifest, task: str | None, update: int | None, trajectory: int | None) -> TracedEpisode:
    """The run's first episode that fits.

    Raises:
        UserError: the run kept no tokens, or none of such an episode; says which it kept.
    """
    path = run / cell.CREDITS
    if not path.is_file():
        raise UserError(f"{run} has no {cell.CREDITS}: it is not complete, or an older version made it; run it again")
    rows = read_rows(path, TokenRow)
    fits = [row for row in rows if task in (None, row.task_id) and update in (None, row.update)]
    fits = [row for row in fits if trajectory in (None, row.trajectory)]
    if not fits:
        kept = _listed(f"update {u}, task {t}" for u, t in dict.fromkeys((row.update, row.task_id) for row in rows))
        places = sorted({row.trajectory for row in rows})
        raise UserError(f"{path} keeps no such episode; it has {kept or 'none'}, trajectories {places}")
    first = _identity(fits[0])
    own = [row for row in fits if _identity(row) == first]
    turns = (tuple(tokens) for _, tokens in groupby(own, key=lambda row: row.turn))
    return TracedEpisode(run, found, own[0].hint, tuple(TracedTurn(tokens[0].read, tokens) for tokens in turns))


def _identity(row: TokenRow) -> tuple[int, str, int]:
    return row.update, row.task_id, row.trajectory


def _below(root: Path) -> Iterator[Path]:
    """Runs at any depth, in order."""
    if not root.is_dir():
        raise UserError(f"there is no folder {root}; give the folder of a run or of a study")
    yield from sorted(path.parent for path in root.rglob(manifest.NAME) if path.parent.name != "paper")


def _listed(names: Iterable[object], most: int = 8) -> str:
    said: Sequence[str] = [str(name) for name in names]
    return ", ".join(said[:most]) + (f" and {len(said) - most} more" if len(said) > most else "")

"""What is kept of a run to look into: a few groups' tokens with their credit, as the method came to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from stepcredit.harness.model.transcript import Transcript
from stepcredit.harness.record import checkpoint, files
from stepcredit.harness.record.rows import read_rows, write_rows
from stepcredit.harness.record.traces import Heard, TokenRow, token_rows, traced_group, traced_updates
from stepcredit.methods.contract import Credit, Distributions, Group, Rescorer, ScoreRequest, Weights

_PARTS = "tokens-*.parquet"


class Witness:
    """A rescorer that passes on what it is asked, and remembers what it said of each trajectory."""

    def __init__(self, rescorer: Rescorer) -> None:
        self._rescorer = rescorer
        self._lessons: dict[tuple[str, int], tuple[ScoreRequest, Tensor | None]] = {}
        self._students: dict[tuple[str, int], Tensor] = {}

    def score(self, requests: Sequence[ScoreRequest]) -> list[Tensor]:
        """As `Rescorer.score`."""
        answers = self._rescorer.score(requests)
        for request, answer_T in zip(requests, answers, strict=True):
            if _is_taught(request):
                self._remember(request, answer_T)
            else:
                self._students.setdefault(_key(request), answer_T)
        return answers

    def distributions(self, requests: Sequence[ScoreRequest], top: int) -> list[Distributions]:
        """As `Rescorer.distributions`."""
        for request in requests:
            self._remember(request, None)
        return self._rescorer.distributions(requests, top)

    def heard(self, group: Group) -> dict[int, Heard]:
        """What was said of the group's trajectories, by their place."""
        return {trajectory.index: self._heard((group.task_id, trajectory.index)) for trajectory in group.trajectories}

    def _heard(self, key: tuple[str, int]) -> Heard:
        student_T = self._students.get(key)
        if key not in self._lessons:
            return Heard(student_T=student_T)
        request, answer_T = self._lessons[key]
        return Heard(request.hindsight or "", answer_T, student_T)

    def _remember(self, request: ScoreRequest, answer_T: Tensor | None) -> None:
        """The first one that was shown something, or else the first of other weights."""
        known = self._lessons.get(_key(request))
        if known is None or (known[0].hindsight is None and request.hindsight is not None):
            self._lessons[_key(request)] = request, answer_T


def keep(
    cell: Path,
    witness: Witness,
    groups: Sequence[Group],
    credits: Sequence[Sequence[Credit]],
    update: int,
    transcript: Transcript,
) -> None:
    """Write the tokens of one group of the update, to be gathered when the run ends.

    Raises:
        UserError: disk full or no permission.
    """
    place = traced_group(groups)
    group = groups[place]
    rows = token_rows(group, credits[place], witness.heard(group), update, transcript.token_bytes)
    write_rows(_part(cell, update), rows, TokenRow)


def gather(cell: Path, updates: int, path: Path) -> None:
    """All that was kept, in one file; what came from an older version's updates is not there.

    Raises:
        UserError: a part is damaged, disk full or no permission.
    """
    parts = [_part(cell, update) for update in traced_updates(updates)]
    write_rows(path, [row for part in parts if part.is_file() for row in read_rows(part, TokenRow)], TokenRow)


def let_go(cell: Path) -> None:
    """Remove the parts of a run that is complete."""
    for part in (cell / checkpoint.FOLDER).glob(_PARTS):
        files.discard(part)


def _part(cell: Path, update: int) -> Path:
    return cell / checkpoint.FOLDER / _PARTS.replace("*", f"{update:06d}")


def _key(request: ScoreRequest) -> tuple[str, int]:
    return request.trajectory.task_id, request.trajectory.index


def _is_taught(request: ScoreRequest) -> bool:
    return request.hindsight is not None or request.weights is not Weights.LIVE

"""What a run recorded, as the rules on collapse and divergence read it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from stepcredit.harness.record.rows import EpisodeRow, UpdateRow
from stepcredit.paper.health import Vitals, limited_share


def vitals_of(updates: Iterable[UpdateRow], episodes: Iterable[EpisodeRow]) -> list[Vitals]:
    """One of each update, in order."""
    stops: dict[int, list[str]] = {}
    for episode in episodes:
        if episode.phase == "train":
            stops.setdefault(episode.update, []).append(episode.stop)
    return [_vitals(row, stops[row.update]) for row in updates]


def _vitals(row: UpdateRow, stops: Sequence[str]) -> Vitals:
    return Vitals(
        update=row.update,
        taught=row.skipped_groups < row.groups,
        entropy=row.entropy,
        kl=row.kl,
        loss=row.loss,
        grad_norm=row.grad_norm,
        success=row.success,
        invalid_rate=row.invalid_rate,
        limited=limited_share(stops),
    )

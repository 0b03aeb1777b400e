"""Whether two rows can have been measured on the same tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from stepcredit.paper.audit.fractions import Percent


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many tasks a subset may have."""

    low: int
    high: int

    @property
    def known(self) -> bool:
        """Whether it is one number."""
        return self.low == self.high


def feasible(rows: Sequence[Mapping[str, Percent]], aggregate: str, total: int, sizes: Mapping[str, Sizes]) -> bool:
    """Whether subsets of some sizes that add up to `total` can print all of the rows, their aggregates included.

    Args:
        rows: subset or aggregate -> percentage, each with the same columns.
        aggregate: the column that is taken over all tasks.
        sizes: of the subsets, where something is known of them.
    """
    subsets = [column for column in rows[0] if column != aggregate]
    wanted = [set(row[aggregate].successes(total)) for row in rows]
    if not all(wanted):
        return False
    states = {(0, *(0 for _ in rows))}
    for place, subset in enumerate(subsets):
        least_after = sum(sizes[name].low if name in sizes else 1 for name in subsets[place + 1 :])
        choices = _choices([row[subset] for row in rows], sizes.get(subset, Sizes(1, total)), total)
        states = {
            (tasks + n, *(own + k for own, k in zip(won, successes, strict=True)))
            for tasks, *won in states
            for n, successes in choices
            if tasks + n + least_after <= total
        }
        states = {s for s in states if all(own <= max(most) for own, most in zip(s[1:], wanted, strict=True))}
    return any(
        tasks == total and all(own in most for own, most in zip(won, wanted, strict=True)) for tasks, *won in states
    )


def _choices(values: Sequence[Percent], sizes: Sizes, total: int) -> list[tuple[int, tuple[int, ...]]]:
    """Sizes at which all of the values can be printed, with the successes that print them."""
    found = []
    for n in range(max(1, sizes.low), min(total, sizes.high) + 1):
        ways = [value.successes(n) for value in values]
        found += [(n, successes) for successes in product(*ways)]
    return found

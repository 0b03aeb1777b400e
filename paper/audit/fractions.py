"""Which whole numbers of successes print a percentage."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Percent:
    """A percentage as it was printed.

    Attributes:
        value: in percent, exactly.
        digits: decimals that were printed.
    """

    value: Fraction
    digits: int

    @classmethod
    def parse(cls, text: str) -> Percent | None:
        """None for what is no percentage."""
        try:
            number = Decimal(text.strip().removesuffix("%"))
        except InvalidOperation:
            return None
        if not number.is_finite() or not 0 <= number <= 100:
            return None
        exponent = number.as_tuple().exponent
        return cls(Fraction(number), max(0, -int(exponent)))

    @property
    def half(self) -> Fraction:
        """How far the true value may be: rounding half up and half to even both occur, so both ends count."""
        return Fraction(1, 2 * 10**self.digits)

    def prints(self, share: Fraction) -> bool:
        """Whether the share, of 1, is printed so."""
        return abs(100 * share - self.value) <= self.half

    def successes(self, n: int) -> range:
        """Of n trials; no number where the value cannot be printed."""
        low = (self.value - self.half) * n / 100
        high = (self.value + self.half) * n / 100
        return range(max(0, -int(-low // 1)), min(n, int(high // 1)) + 1)

    def batched(self, n: int, rest: int) -> bool:
        """Whether it is the plain mean of two batches' shares, of n - rest and of rest trials."""
        whole = n - rest
        for last in range(rest + 1):
            other = Fraction(last, rest)
            if any(
                self.prints((Fraction(k, whole) + other) / 2) for k in self._near(2 * self.value / 100 - other, whole)
            ):
                return True
        return False

    def _near(self, share: Fraction, n: int) -> range:
        """Successes of n whose share is that, within rounding."""
        slack = 2 * self.half / 100
        low, high = (share - slack) * n, (share + slack) * n
        return range(max(0, -int(-low // 1)), min(n, int(high // 1)) + 1)


def power(n: int, digits: int) -> float:
    """Share of the percentages of so many decimals that fractions of n reach: what is left can be told to be wrong."""
    steps: int = 100 * 10**digits
    reached = {step for k in range(n + 1) for step in _steps(k, n, digits)}
    return float(len(reached)) / (steps + 1)


def batched_power(n: int, rest: int, digits: int) -> float:
    """Share of the percentages that means of two batches' shares reach: how likely one fits by chance."""
    steps: int = 100 * 10**digits
    values = (Percent(Fraction(step, 10**digits), digits) for step in range(steps + 1))
    return float(sum(value.batched(n, rest) for value in values)) / (steps + 1)


def _steps(k: int, n: int, digits: int) -> set[int]:
    exact = Fraction(100 * 10**digits * k, n)
    floor = int(exact // 1)
    rest = exact - floor
    if rest == Fraction(1, 2):
        return {floor, floor + 1}
    return {floor + 1 if rest > Fraction(1, 2) else floor}

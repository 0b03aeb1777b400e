"""The one exception that means: the user can mend this."""

from __future__ import annotations


class UserError(ValueError):
    """Bad input: one sentence that says what, where, the value seen and what to do. The CLI exits with 2."""


class Diverged(UserError):
    """The loss or its gradient is not finite; the step was not made.

    Attributes:
        seen: the two numbers, in words.
    """

    def __init__(self, loss: float, norm: float) -> None:
        self.seen = f"the loss is {loss:g} and its gradient's norm {norm:g}"
        super().__init__(f"training diverged: {self.seen}; lower optim.lr or optim.grad_clip and run again")

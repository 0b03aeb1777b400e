"""Finite decision processes in words, and the exact worth of every action in them.

A process is small enough to be solved by backward induction, for any policy: V, Q and the true step advantage
A*(s, a) = Q(s, a) - V(s), without discount and without noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

State = tuple[int, ...]
"""Where an episode stands; holds the number of actions taken, so that none comes back."""

Chances = Mapping[str, float]
"""How likely each action is taken in a state; the sum is 1."""

Policy = Callable[[State], Chances]


class Process(Protocol):
    """One task."""

    @property
    def task(self) -> str:
        """What is to be done, in words."""
        ...

    @property
    def start(self) -> State: ...

    def text(self, state: State) -> str:
        """What the agent reads there."""
        ...

    def actions(self, state: State) -> tuple[str, ...]:
        """What is admitted there, sorted; empty where the episode is over."""
        ...

    def outcomes(self, state: State, action: str) -> Sequence[tuple[State, float]]:
        """Where an admitted action leads, and how likely; the sum is 1."""
        ...

    def won(self, state: State) -> bool:
        """Whether an episode that is over there has succeeded."""
        ...


def uniform(process: Process) -> Policy:
    """Every admitted action alike."""

    def chances(state: State) -> Chances:
        actions = process.actions(state)
        return dict.fromkeys(actions, 1.0 / len(actions))

    return chances


def values(process: Process, policy: Policy) -> dict[State, float]:
    """V of every state that the policy can reach: how likely it succeeds from there."""
    found: dict[State, float] = {}
    for state in _last_first(process):
        if actions := process.actions(state):
            chances = policy(state)
            found[state] = sum(chances[action] * _expected(process, found, state, action) for action in actions)
        else:
            found[state] = float(process.won(state))
    return found


def best_values(process: Process, discount: float = 1.0) -> dict[State, float]:
    """V of every state under the best policy; with a discount an action, of two that win the sooner one is better."""
    found: dict[State, float] = {}
    for state in _last_first(process):
        actions = process.actions(state)
        worth = [_expected(process, found, state, action) for action in actions]
        found[state] = discount * max(worth) if actions else float(process.won(state))
    return found


def best_actions(process: Process, state: State, best: Mapping[State, float]) -> tuple[str, ...]:
    """All that are worth most there; `best` is what `best_values` says."""
    worth = {action: _expected(process, best, state, action) for action in process.actions(state)}
    return tuple(action for action, value in worth.items() if value >= max(worth.values()) - 1e-12)


def advantages(process: Process, policy: Policy, state: State) -> dict[str, float]:
    """A*(s, a) of every admitted action: Q(s, a) - V(s) where the policy goes on."""
    known = values(process, policy)
    return {action: _expected(process, known, state, action) - known[state] for action in process.actions(state)}


def _expected(process: Process, known: Mapping[State, float], state: State, action: str) -> float:
    return sum(chance * known[after] for after, chance in process.outcomes(state, action))


def _last_first(process: Process) -> Iterator[State]:
    """Every state that can be reached, each after all that follow it."""
    layers: list[dict[State, None]] = [{process.start: None}]
    while layers[-1]:
        layers.append(
            {
                after: None
                for state in layers[-1]
                for action in process.actions(state)
                for after, chance in process.outcomes(state, action)
                if chance > 0.0
            }
        )
    seen: dict[State, None] = {}
    for layer in reversed(layers):
        for state in layer:
            if state not in seen:
                seen[state] = None
                yield state

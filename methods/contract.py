"""What a credit-assignment method is given and what it returns.

A method sees groups of trajectories and a rescorer. It returns credit per response token and knows
nothing of environments, training loops or files.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Generic, Protocol, Self

from pydantic import model_validator
from torch import Tensor
from typing_extensions import TypeVar

from stepcredit.methods.recorded import Recorded
from stepcredit.methods.trajectory import GoldenTurn, Group, Span, Step, StopReason, Trajectory

__all__ = [
    "Credit",
    "Distributions",
    "GoldenTurn",
    "Group",
    "Method",
    "MethodConfig",
    "MethodError",
    "Needs",
    "Rescorer",
    "ScoreRequest",
    "Span",
    "Step",
    "StopReason",
    "Target",
    "Traits",
    "Trajectory",
    "Weights",
]


class MethodError(ValueError):
    """A method was asked for wrongly or returned something invalid: one sentence that says what to do."""


class Weights(StrEnum):
    """Which weights score a context."""

    LIVE = "live"
    """The policy as it is."""
    INITIAL = "initial"
    """The policy as the run found it."""
    STALE = "stale"
    """Its last snapshot."""
    EMA = "ema"
    """The moving average of its weights."""
    CHECKPOINT = "checkpoint"
    """Another policy."""


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """A trajectory's own response tokens, each step in its own context.

    Attributes:
        trajectory: whose tokens to score.
        weights: which policy scores.
        hindsight: text put into every step's context; None leaves the contexts as they were.
        starts: [K] the response token of each step that the hindsight stands right before; tokens before it, and steps
            with None, are scored as they were. Without starts it stands at the end of each prompt, before the words
            that open a response.
    """

    trajectory: Trajectory
    weights: Weights
    hindsight: str | None = None
    starts: tuple[int | None, ...] | None = None


@dataclass(frozen=True, slots=True)
class Distributions:
    """What some weights find likeliest at each response token.

    Attributes:
        ids_Tk: [T, k] token ids, likeliest first.
        logprob_Tk: [T, k] their log-probabilities; what is missing to a sum of 1 belongs to all other tokens together.
    """

    ids_Tk: Tensor
    logprob_Tk: Tensor


class Rescorer(Protocol):
    """Scores trajectories under other contexts and weights."""

    def score(self, requests: Sequence[ScoreRequest]) -> list[Tensor]:
        """One detached float32 tensor [T] per request, over all response tokens of its trajectory in order."""
        ...

    def distributions(self, requests: Sequence[ScoreRequest], top: int) -> list[Distributions]:
        """The `top` likeliest tokens per request, or all there are, at all response tokens in order; detached."""
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """Where the objective is to move the policy's own distributions, as one more term of the loss.

    The term of a token is weight * D_beta(teacher, policy): the generalised Jensen-Shannon divergence beta KL(T || M) +
    (1 - beta) KL(P || M), M = beta T + (1 - beta) P (arXiv 2306.13649, eq. 1; beta and 1 - beta as in TRL's
    `GKDTrainer.generalized_jsd_loss`). beta 0 is KL(T || P), beta 1 is KL(P || T). Tokens that are not among the
    teacher's likeliest count as one.

    Attributes:
        teacher: the distributions to approach.
        weight_T: [T] how much each token's divergence counts; 0 where there is no teacher.
        beta: in [0, 1].
        entry_clip: most that one token of the vocabulary may add to a divergence; None bounds nothing.
    """

    teacher: Distributions
    weight_T: Tensor
    beta: float
    entry_clip: float | None = None


@dataclass(frozen=True, slots=True)
class Credit:
    """A method's verdict on one trajectory.

    Attributes:
        advantage_T: [T] weight of each response token in the policy gradient.
        distill_T: [T] weight of each response token's (teacher - student) log-ratio in the auxiliary
            loss of methods that have one; None for the others.
        target: distributions that the policy is moved towards, for methods whose teacher gives whole distributions.
        diagnostics: numbers worth recording, averaged over an update's trajectories.
    """

    advantage_T: Tensor
    distill_T: Tensor | None = None
    diagnostics: Mapping[str, float] = field(default_factory=dict)
    target: Target | None = None

    def streams(self) -> Iterator[tuple[str, Tensor]]:
        """The weights that the method gave, one after the other: what each is called, and its [T] numbers."""
        yield "advantage_T", self.advantage_T
        if self.distill_T is not None:
            yield "distill_T", self.distill_T
        if self.target is not None:
            yield "target.weight_T", self.target.weight_T


class MethodConfig(Recorded):
    """Base of every method's options. The defaults are the settings of the paper or the code that it names."""

    def idle(self) -> Mapping[str, str]:
        """The options that have no effect beside the others, and why: another value than the default is refused."""
        return {}

    def missing(self) -> str | None:
        """What is lacking for these options to make sense, in a sentence."""
        return None

    def unserved(self, group: Group) -> int:
        """How many of the group's trajectories lack the hindsight that these options ask for."""
        return 0

    @model_validator(mode="after")
    def _require_effect(self) -> Self:
        if (complaint := self.missing()) is not None:
            raise ValueError(complaint)
        for name, why in self.idle().items():
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"option {name} has no effect {why}; leave it out")
        return self


@dataclass(frozen=True, slots=True)
class Needs:
    """What a method, with its options, is to be given beyond the rollouts.

    Attributes:
        stale_refresh: updates between refreshes of a snapshot of the policy; None for methods without one.
        initial: whether the policy as the run found it scores as `Weights.INITIAL`.
        ema: rate of a moving average of the policy's weights, which scores as `Weights.EMA`: after each update it is
            (1 - rate) itself + rate policy; None for methods without one.
        checkpoint: another policy with the same vocabulary that scores as `Weights.CHECKPOINT`: a preset's name, a
            run's folder or a policy's; None for methods without one.
        golden: whether groups carry the benchmark's reference trajectory.
        skills: the folder of the texts that groups carry, one for each subset; None for methods without them.
        foreign: whether groups carry successful trajectories of the update's other tasks.
        untold: whether steps carry their prompts without the words that say what the task is.
        continuations: fresh episodes from the state before each step; 0 for methods without them.
        answers: whether it aims at the actions that are answers, and must be told which these are.
        distributions: whether a teacher is asked for whole distributions.
    """

    stale_refresh: int | None = None
    initial: bool = False
    ema: float | None = None
    checkpoint: str | None = None
    golden: bool = False
    skills: str | None = None
    continuations: int = 0
    answers: bool = False
    distributions: bool = False
    foreign: bool = False
    untold: bool = False

    @property
    def other_weights(self) -> bool:
        """Whether other weights than the policy's score."""
        return self.initial or any(other is not None for other in (self.stale_refresh, self.ema, self.checkpoint))


@dataclass(frozen=True, slots=True)
class Traits:
    """Properties that a method with its default options declares; the law suite checks each one it claims.

    Attributes:
        preserves_sign: no token's credit has the opposite sign of the trajectory's GRPO advantage.
        uses_hindsight: contexts with a hindsight block are scored.
        needs_outcome: all-equal groups get zero credit.
        needs_stale_policy: a snapshot of the policy is kept and refreshed.
        on_spans: no credit outside the reasoning and the action of each step.
        tilts_spans: option that names the target spans outside of which credit is GRPO's, bit for bit.
        tags: boolean option that counts an action's tags among its target spans.
        tilt: option that bounds the tilt of GRPO's advantage A: |A'_t - A| <= option * |A| (before any step budget).
        mixing: option at whose 0 the method is GRPO, bit for bit.
        step_budget: boolean option that gives every step the same mean |A'|, within a factor of 2 either way.
        prefix_only: given rewards and hindsight, no token's credit depends on a later one (without a step budget).
        teachers: the most teachers, each with a hindsight block or weights of its own, that score one trajectory.
        distils: some credit has a weight in the auxiliary loss.
        compares_states: credit depends on which steps were taken in the same state, or after the same observation.
    """

    preserves_sign: bool
    uses_hindsight: bool
    needs_outcome: bool
    needs_stale_policy: bool = False
    on_spans: bool = False
    tilts_spans: str | None = None
    tags: str | None = None
    tilt: str | None = None
    mixing: str | None = None
    step_budget: str | None = None
    prefix_only: bool = False
    teachers: int = 1
    distils: bool = False
    compares_states: bool = False


ConfigT_co = TypeVar("ConfigT_co", bound=MethodConfig, default=MethodConfig, covariant=True)


class Method(ABC, Generic[ConfigT_co]):
    """A credit-assignment method: its options, its traits and one function.

    Attributes:
        name: what `--method` takes, and the registry's key.
        paper: where it was published.
        label: how tables and figures spell it; the name, where it is not given.
        config: its options, of its own `Config`.
    """

    name: ClassVar[str]
    label: ClassVar[str] = ""
    paper: ClassVar[str]
    Config: ClassVar[type[MethodConfig]] = MethodConfig
    traits: ClassVar[Traits]

    def __init__(self, config: ConfigT_co) -> None:
        self.config = config

    def options(self) -> dict[str, Any]:
        """Every option with its value, defaults included, as JSON values."""
        return self.config.model_dump(mode="json")

    @property
    def needs(self) -> Needs:
        """What the method is to be given with these options."""
        return Needs()

    @property
    def scores_steps(self) -> bool:
        """Whether it reads what single steps cost (`Step.penalty`)."""
        return False

    @property
    def has_teacher(self) -> bool:
        """Whether tokens are scored with hindsight or by other weights than the policy's."""
        return self.needs.other_weights or self.traits.uses_hindsight

    @abstractmethod
    def credit(self, group: Group, rescore: Rescorer, update: int) -> list[Credit]:
        """Credit for each trajectory of the group, in its order. `update` counts from 0."""

    def settled(self, credits: Sequence[Sequence[Credit]]) -> list[list[Credit]]:
        """The credit of an update's groups once all of it is known, for methods that compare across groups."""
        return [list(own) for own in credits]

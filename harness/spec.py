"""RunSpec: everything that determines a run, frozen, with a canonical JSON and a hash."""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from stepcredit.methods.recorded import Recorded
from stepcredit.paper.health import Condition


class EngineName(StrEnum):
    """What draws a run's episodes; given the same weights all draw the same tokens, but for rounding."""

    TRANSFORMERS = "transformers"
    """The trainer's own model over a cache of keys and values: the reference."""
    VLLM = "vllm"
    """A copy of the weights in vLLM, where that is installed."""


class Aggregation(StrEnum):
    """How the loss of an update's tokens becomes one number."""

    TOKEN_MEAN = "token_mean"
    """Over all response tokens of the batch (DAPO, arXiv 2503.14476)."""
    SEQUENCE_MEAN = "sequence_mean_token_mean"
    """Over each trajectory's response tokens, then over trajectories (GRPO, arXiv 2402.03300)."""
    SEQUENCE_SUM_NORM = "sequence_mean_token_sum_norm"
    """Each trajectory's sum over its largest possible length, then over trajectories (Dr. GRPO, arXiv 2503.20783)."""


class Importance(StrEnum):
    """Correction of the policy gradient where an engine drew tokens with other probabilities than the trainer's.

    r is the trainer's probability before the step over the engine's, of a token or of all response tokens in a row.
    The same forms as TRL's `vllm_importance_sampling_mode`; verl calls the truncated ones `rollout_is`.
    """

    NONE = "none"
    TOKEN_TRUNCATE = "token_truncate"
    """min(r, cap) of each token (arXiv 2508.19184's truncated importance sampling)."""
    TOKEN_MASK = "token_mask"
    """r of each token, 0 above the cap."""
    SEQUENCE_TRUNCATE = "sequence_truncate"
    """min(r, cap) of the row."""
    SEQUENCE_MASK = "sequence_mask"
    """r of the row, 0 above the cap; TRL's default."""


class Schedule(StrEnum):
    """The learning rate after its warm-up; the same curves as transformers' `get_..._schedule_with_warmup`."""

    CONSTANT = "constant"
    LINEAR = "linear"
    """Down to 0 at the run's end."""
    COSINE = "cosine"
    """Half a cosine, down to 0 at the run's end."""


class History(StrEnum):
    """What a windowed prompt shows of past turns."""

    TURNS = "turns"
    """Messages: each response as it was drawn, reasoning included, and what came of it."""
    ACTIONS = "actions"
    """A list of observations and actions in the one message that the prompt is, as verl-agent writes it."""


class PastReasoning(StrEnum):
    """What a window's messages show of the reasoning in earlier responses."""

    KEPT = "kept"
    """All of it: the tokens as they were drawn."""
    DROPPED = "dropped"
    """What follows `</think>` alone, as Qwen3's chat template writes earlier responses."""


class Overlong(StrEnum):
    """What becomes of a windowed prompt that leaves no room for a response."""

    END = "end"
    """Its episode ends with `context_limit`."""
    CUT = "cut"
    """It loses its beginning (verl's `truncation=left`)."""


class RolloutSpec(Recorded):
    """How trajectories are drawn."""

    LATER = frozenset(
        {
            *("max_observation_tokens", "window", "show_actions", "top_p", "history", "overlong"),
            *("thinking", "past_reasoning", "env_timeout_s"),
        }
    )

    tasks: int = Field(16, ge=1)
    """Tasks per update."""
    group: int = Field(8, ge=1)
    """Trajectories per task."""
    max_turns: int = Field(20, ge=1)
    """Agent turns per episode."""
    max_response_tokens: int = Field(24, ge=1)
    """Tokens per turn; a turn that reaches it without closing its action is truncated and invalid."""
    max_context_tokens: int = Field(1024, ge=16)
    """Tokens of transcript; an episode whose next turn may not fit ends with `context_limit`."""
    max_observation_tokens: int | None = Field(None, ge=16)
    """Tokens of an observation after the first; a longer one is cut before its closing tag. None cuts nothing."""
    temperature: float = Field(1.0, ge=0.0)
    """Sampling temperature; 0 is greedy."""
    top_p: float = Field(1.0, gt=0.0, le=1.0)
    """Tokens are drawn from the likeliest ones whose probabilities add up to this, in evaluations too. Their recorded
    log-probabilities are those among all tokens, which are trained on."""
    window: int | None = Field(None, ge=0)
    """Each turn gets a prompt of its own: the task, the last so many turns, and what the agent sees now (2 in the
    recipe of arXiv 2505.10978). None is one running transcript."""
    show_actions: bool = False
    """Prompts list the admissible actions, where the benchmark has such a list."""
    history: History = History.TURNS
    """What a window shows of past turns."""
    overlong: Overlong = Overlong.END
    """What becomes of a windowed prompt that is too long."""
    past_reasoning: PastReasoning = PastReasoning.KEPT
    """What a window's messages show of earlier reasoning."""
    env_timeout_s: float | None = Field(600.0, gt=0.0)
    """Seconds that an environment's `reset`, `step` or `clone` may take; then it is given up, and its episode ends with
    `env_failure`. None waits for ever."""
    thinking: bool | None = None
    """`enable_thinking` of a chat template that has it, as Qwen3's; None does not mention it. Where it is off, a
    response begins with an empty reasoning that earlier ones do not have, so prompts must be one message."""

    @model_validator(mode="after")
    def _require_effect(self) -> Self:
        for name, value, usual in (("history", self.history, "turns"), ("overlong", self.overlong, "end")):
            if self.window is None and not self._unset(name):
                raise ValueError(
                    f"rollout.{name}={value} needs rollout.window: a running transcript stays as it is; set a window, "
                    f"or rollout.{name}={usual}"
                )
        if self.past_reasoning is PastReasoning.DROPPED and (self.window is None or self.history is History.ACTIONS):
            raise ValueError(
                "rollout.past_reasoning=dropped needs rollout.window and rollout.history=turns: a running transcript "
                "stays as it is, and a list of actions has no reasoning"
            )
        if self.thinking is not None and (self.window is None or self.history is History.TURNS):
            raise ValueError(
                f"rollout.thinking={str(self.thinking).lower()} needs rollout.window and rollout.history=actions, "
                "whose prompts are one message: earlier responses would read differently than they were asked for"
            )
        if self.history is History.ACTIONS and self.max_observation_tokens is not None:
            raise ValueError(
                "rollout.max_observation_tokens cuts messages, and rollout.history=actions has none to cut"
            )
        return self


class Reference(StrEnum):
    """Whom the KL term compares the policy with."""

    INITIAL = "initial"
    """The policy that the run started from."""
    TEACHER = "teacher"
    """The snapshot that the method's teacher is, and so one that moves."""


class Penalised(StrEnum):
    """What pays for an invalid action."""

    EPISODE = "episode"
    """The episode's reward; never in groups without a success."""
    STEP = "step"
    """The step's own return, in every group, as in verl-agent; for methods that score steps."""


class ObjectiveSpec(Recorded):
    """The one loss, blind to methods."""

    LATER = frozenset(
        {
            *("aggregation", "importance", "importance_cap", "max_engine_gap"),
            *("dual_clip", "entropy", "reward_scale", "reference", "penalised"),
        }
    )

    aggregation: Aggregation = Aggregation.TOKEN_MEAN
    """How the loss of an update's tokens becomes one number."""

    clip_low: float = Field(0.2, ge=0.0, le=1.0)
    """Lower clip radius of the importance ratio."""
    clip_high: float = Field(0.2, ge=0.0)
    """Upper clip radius of the importance ratio."""
    dual_clip: float | None = Field(None, gt=1.0)
    """Largest ratio that counts where the credit is negative (arXiv 1912.09729; 3 in verl); None bounds nothing."""
    distill: float = Field(1.0, ge=0.0)
    """Weight of the distillation term of methods that emit one."""
    kl: float = Field(0.0, ge=0.0)
    """Weight of the k3 estimate of KL(policy || reference)."""
    reference: Reference = Reference.INITIAL
    """What it is measured from; the teacher's snapshot in StepOPSD's code, for methods that keep one."""
    entropy: float = Field(0.0, ge=0.0)
    """Weight of the entropy bonus."""
    reward_scale: float = Field(1.0, gt=0.0)
    """What methods see of a reward of 1, before penalties; 10 in verl-agent's ALFWorld."""
    invalid_penalty: float = Field(0.0, ge=0.0)
    """What each invalid action costs."""
    penalised: Penalised = Penalised.EPISODE
    """Where it is taken from."""
    importance: Importance = Importance.NONE
    """Correction for an engine whose probabilities are not the trainer's; refused where they are."""
    importance_cap: float = Field(3.0, gt=0.0)
    """Largest importance weight; 3 in TRL, 2 in verl."""
    max_engine_gap: float = Field(0.2, gt=0.0)
    """Nats; the run stops where trainer and engine differ by more on an update's tokens, in the mean."""


class OptimSpec(Recorded):
    """AdamW and the size of micro-batches."""

    LATER = frozenset({"schedule", "warmup", "minibatch", "epochs", "recompute", "offload", "rank"})

    lr: float = Field(5e-4, gt=0.0)
    """Learning rate, where it is largest."""
    schedule: Schedule = Schedule.CONSTANT
    """How it goes on after the warm-up."""
    warmup: float = Field(0.0, ge=0.0, le=1.0)
    """Share of the run's updates, rounded down, in which it rises from 0."""
    minibatch: int | None = Field(None, ge=1)
    """Steps of episodes per optimiser step, in a seeded order; what the model reads in one row is not divided. None is
    one optimiser step for all."""
    epochs: int = Field(1, ge=1)
    """How often an update goes through its trajectories."""
    beta1: float = Field(0.9, ge=0.0, lt=1.0)
    """Decay of the first moment."""
    beta2: float = Field(0.95, ge=0.0, lt=1.0)
    """Decay of the second moment."""
    weight_decay: float = Field(0.0, ge=0.0)
    """Decoupled weight decay."""
    grad_clip: float = Field(1.0, gt=0.0)
    """Largest global gradient norm."""
    token_budget: int = Field(8192, ge=64)
    """Padded tokens per micro-batch."""
    recompute: bool = False
    """Layers and logits are computed again for the gradient instead of kept: a third more compute, far less memory."""
    offload: bool = False
    """AdamW's moments rest in host memory and visit a GPU weight by weight: 8 bytes a weight less there, same bits."""
    rank: int | None = Field(None, ge=1)
    """Of low-rank adapters (LoRA), which are all that is trained then; they want a learning rate of 1e-5 to 1e-4. None
    trains all weights."""

    @property
    def several_steps(self) -> bool:
        """Whether an update may take more than one optimiser step."""
        return self.minibatch is not None or self.epochs > 1


class Luck(StrEnum):
    """Which runs meet the same draws when they are evaluated."""

    SHARED = "shared"
    """All of them: seeds differ by their training alone, and an interval over seeds does not know evaluation's luck."""
    BY_SEED = "by_seed"
    """Those of one seed: their methods stay paired, and other seeds meet other draws."""


class EvalSpec(Recorded):
    """The fixed held-out panel and how it is sampled."""

    LATER = frozenset({"per_subset", "samples", "luck"})

    split: str = "valid_unseen"
    """Split evaluated during training."""
    size: int | None = None
    """Sub-panel size; None evaluates the whole split."""
    per_subset: int | None = Field(None, ge=1)
    """Sub-panel size of each subset; a shorter subset counts whole."""
    panel_seed: int = 0
    """Seed of the permutation whose prefix the sub-panel is."""
    every: int = Field(25, ge=1)
    """Updates between evaluations; before the first and after the last there always is one."""
    temperature: float = Field(1.0, ge=0.0)
    """Sampling temperature; 0 is greedy."""
    samples: int = Field(1, ge=1)
    """Episodes of each task before the first update and after the last; in between it is one."""
    luck: Luck = Luck.SHARED
    """Which runs share the draws."""
    seed: int = 0
    """Seed of the draws, with the run's own where luck is by seed."""

    @model_validator(mode="after")
    def _require_effect(self) -> Self:
        for name in ("samples", "luck"):
            if self.temperature == 0.0 and not self._unset(name):
                raise ValueError(
                    f"evaluation.{name}={getattr(self, name)} has no effect at evaluation.temperature=0, where nothing "
                    f"is drawn; leave it out, or set a temperature"
                )
        return self


class StopSpec(Recorded):
    """Whether a run that collapses or diverges goes on."""

    LATER = frozenset({"after", "on"})

    after: int | None = Field(None, ge=1)
    """The run stops where one of the conditions has held for so many updates in a row, and is recorded as stopped; None
    lets it go on to its end."""
    on: tuple[Condition, ...] | None = None
    """Which conditions, see `stepcredit.paper.health`: a JSON list, or names between commas. None is all of them."""

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """Those on which the run stops."""
        return () if self.after is None else tuple(Condition) if self.on is None else self.on

    @field_validator("on", mode="before")
    @classmethod
    def _between_commas(cls, value: Any) -> Any:
        return value.split(",") if isinstance(value, str) else value

    @field_validator("on")
    @classmethod
    def _in_order(cls, value: tuple[Condition, ...] | None) -> tuple[Condition, ...] | None:
        """Each once and always in one order, so that equal rules have equal hashes."""
        if value == ():
            raise ValueError("stop.on names no condition; leave it out to stop on any of them")
        return None if value is None else tuple(condition for condition in Condition if condition in value)

    @model_validator(mode="after")
    def _require_effect(self) -> Self:
        if self.after is None and not self._unset("on"):
            raise ValueError("stop.on has no effect without stop.after, the number of updates a condition must hold")
        return self


class RunSpec(Recorded):
    """One run: a cell of the matrix method x seed x benchmark x model."""

    LATER = frozenset({"env_options", "engine", "stop"})

    model: str = "tiny"
    """Policy preset."""
    benchmark: str = "alfworld"
    """Benchmark name."""
    suite: str = "mini"
    """Variant of the benchmark: generated (`mini`, `full`; `synthetic`) or `real`."""
    env_options: dict[str, Any] = Field(default_factory=dict)
    """The benchmark's options; completed with its defaults before the spec is hashed."""
    train_split: str = "train"
    """Split that training tasks come from."""
    method: str = "grpo"
    """Registered method."""
    method_options: dict[str, Any] = Field(default_factory=dict)
    """The method's options; completed with its defaults before the spec is hashed."""
    seed: int = Field(0, ge=0)
    """Seed of task order and sampling."""
    updates: int = Field(100, ge=0)
    """Policy updates."""
    checkpoint_every: int = Field(10, ge=1)
    """Updates between checkpoints; does not change any result."""
    engine: EngineName = EngineName.TRANSFORMERS
    """What draws the episodes."""
    rollout: RolloutSpec = RolloutSpec()
    objective: ObjectiveSpec = ObjectiveSpec()
    optim: OptimSpec = OptimSpec()
    evaluation: EvalSpec = EvalSpec()
    stop: StopSpec = StopSpec()

    def canonical_json(self) -> str:
        """Sorted keys, no spaces: equal specs give equal text."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    @property
    def sha256(self) -> str:
        """Identity of the run."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()

"""What recipes on verl-agent share: its defaults, and where its trainer differs from ours."""

from __future__ import annotations

from collections.abc import Mapping

from stepcredit.harness.recipes.places import (
    GIGPO_ALFWORLD,
    GIGPO_SEARCH,
    OURS,
    SEARCH_R1,
    VERL_AGENT,
    VERL_AGENT_CODE,
    VERL_AGENT_PROMPT,
    VERL_AGENT_RETRIEVER,
)
from stepcredit.harness.recipes.recipe import Deviation, Sourced, read_from

TRAINER: Mapping[str, Sourced] = {
    **read_from(
        VERL_AGENT,
        {
            "objective.clip_low": 0.2,
            "objective.clip_high": 0.2,
            "objective.dual_clip": 3.0,
            "objective.aggregation": "token_mean",
            "optim.grad_clip": 1.0,
            "optim.beta1": 0.9,
            "optim.beta2": 0.999,
            "optim.weight_decay": 0.01,
            "rollout.temperature": 1.0,
        },
    ),
    **read_from(OURS, {"optim.token_budget": 16384, "optim.recompute": True}),
}

ROWS: Mapping[str, Sourced] = read_from(VERL_AGENT_CODE, {"method_options.rows": True, "objective.penalised": "step"})
E5: Mapping[str, Sourced] = read_from(
    VERL_AGENT_RETRIEVER,
    {"env_options.retriever.engine": "dense", "env_options.retriever.encoder": "intfloat/e5-base-v2"},
)
ENTROPY_BONUS: Mapping[str, Sourced] = read_from(VERL_AGENT, {"objective.entropy": 0.001})
HISTORY: Mapping[str, Sourced] = read_from(VERL_AGENT_PROMPT, {"rollout.history": "actions"})
CUT: Mapping[str, Sourced] = read_from(f"{GIGPO_SEARCH}: truncation left", {"rollout.overlong": "cut"})
REWARD: Mapping[str, Sourced] = read_from(VERL_AGENT_CODE, {"objective.reward_scale": 10.0})


def other_models(names: str, source: str) -> Deviation:
    """Policies that the paper reports besides the recipe's."""
    return Deviation(names, "the recipe's, unless --model says otherwise", source)


ALFWORLD_DEVIATIONS: Mapping[str, Deviation] = {
    "evaluation": Deviation(
        "128 games, drawn by each worker for itself",
        "each game of the split once",
        VERL_AGENT_CODE,
    ),
    "overlong prompts": Deviation(
        "stop the run (limit 2048, response apart)",
        "end their episode; max_context_tokens counts prompt and response",
        GIGPO_ALFWORLD,
    ),
}

SEARCH_DEVIATIONS: Mapping[str, Deviation] = {
    "corpus": Deviation("wiki-18, 21 million passages", "the suite's", SEARCH_R1),
}

"""GiGPO's recipes (arXiv 2505.10978): appendix E.1 where it speaks, then the scripts, then the framework's defaults."""

from __future__ import annotations

from stepcredit.harness.recipes.places import GIGPO_ALFWORLD, GIGPO_PAPER, GIGPO_SEARCH, VERL_AGENT, VERL_AGENT_PROMPT
from stepcredit.harness.recipes.recipe import PaperRecipe, read_from
from stepcredit.harness.recipes.verl_agent import (
    ALFWORLD_DEVIATIONS,
    CUT,
    E5,
    ENTROPY_BONUS,
    HISTORY,
    REWARD,
    ROWS,
    SEARCH_DEVIATIONS,
    TRAINER,
    other_models,
)

_METHOD = read_from(GIGPO_PAPER, {"method": "gigpo", "method_options.omega": 1.0, "method_options.gamma": 0.95})

ALFWORLD = PaperRecipe(
    name="gigpo-alfworld",
    paper="GiGPO, arXiv 2505.10978",
    fields={
        **TRAINER,
        **HISTORY,
        **ENTROPY_BONUS,
        **REWARD,
        **_METHOD,
        **ROWS,
        **read_from(
            GIGPO_PAPER,
            {
                "model": "qwen2.5-7b",
                "benchmark": "alfworld",
                "suite": "real",
                "updates": 150,
                "rollout.tasks": 16,
                "rollout.group": 8,
                "rollout.max_turns": 50,
                "rollout.max_response_tokens": 512,
                "rollout.window": 2,
                "rollout.temperature": 1.0,
                "objective.kl": 0.01,
                "objective.invalid_penalty": 0.1,
                "optim.lr": 1e-6,
                "optim.minibatch": 256,
                "evaluation.temperature": 0.4,
            },
        ),
        **read_from(f"{GIGPO_PAPER}: prompt 2048 + response 512", {"rollout.max_context_tokens": 2560}),
        **read_from(VERL_AGENT_PROMPT, {"rollout.show_actions": True}),
        **read_from(GIGPO_ALFWORLD, {"evaluation.every": 5}),
        **read_from(VERL_AGENT, {"evaluation.split": "valid_seen"}),
    },
    deviations={
        **ALFWORLD_DEVIATIONS,
        "other models": other_models("Qwen2.5-1.5B-Instruct, which has no preset here", GIGPO_PAPER),
    },
)

SEARCHQA = PaperRecipe(
    name="gigpo-searchqa",
    paper="GiGPO, arXiv 2505.10978",
    fields={
        **TRAINER,
        **HISTORY,
        **CUT,
        **_METHOD,
        **ROWS,
        **read_from(
            GIGPO_PAPER,
            {
                "model": "qwen2.5-3b",
                "benchmark": "searchqa",
                "suite": "real",
                "updates": 200,
                "rollout.group": 5,
                "rollout.max_turns": 4,
                "rollout.max_response_tokens": 512,
                "rollout.temperature": 1.0,
                "objective.kl": 0.001,
                "objective.invalid_penalty": 0.01,
                "optim.lr": 1e-6,
                "optim.minibatch": 512,
                "evaluation.temperature": 0.0,
            },
        ),
        **read_from(f"{GIGPO_PAPER}: prompt 4096 + response 512", {"rollout.max_context_tokens": 4608}),
        **read_from(
            GIGPO_SEARCH,
            {
                "method_options.similarity": 0.9,
                "optim.warmup": 0.1,
                "rollout.tasks": 256,
                "rollout.window": 4,
                "evaluation.every": 50,
                "evaluation.split": "test",
            },
        ),
        **read_from(VERL_AGENT, {"env_options.topk": 3}),
        **E5,
    },
    deviations={
        **SEARCH_DEVIATIONS,
        "other models": other_models("Qwen2.5-7B-Instruct (--model qwen2.5-7b)", GIGPO_PAPER),
    },
)

FOR_EPISODES = {
    path: field for path, field in ALFWORLD.fields.items() if not path.startswith("method") and path not in ROWS
}
"""ALFWorld's for a method that gives all steps one score."""


ALL = (ALFWORLD, SEARCHQA)

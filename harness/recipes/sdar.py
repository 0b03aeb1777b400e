"""SDAR's recipes (arXiv 2605.15155), read in the authors' scripts."""

from __future__ import annotations

from dataclasses import replace

from stepcredit.harness.recipes.places import (
    SDAR_ALFWORLD,
    SDAR_PAPER,
    SDAR_SCRIPTS,
    SDAR_SEARCH,
    SDAR_SKILLS,
    VERL_AGENT,
    VERL_AGENT_PROMPT,
)
from stepcredit.harness.recipes.recipe import Deviation, PaperRecipe, read_from
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

_MODELS = "Qwen2.5-7B-Instruct, Qwen3-1.7B (--model qwen2.5-7b, qwen3-1.7b)"
_TEACHER = Deviation(
    "the policy, shown skills retrieved for the task",
    "shown a successful peer's episode; method_options.hindsight=skills shows the texts of a folder",
    f"{SDAR_PAPER}; {SDAR_SKILLS}",
)

ALFWORLD = PaperRecipe(
    name="sdar-alfworld",
    paper="SDAR, arXiv 2605.15155",
    fields={
        **TRAINER,
        **ROWS,
        **HISTORY,
        **ENTROPY_BONUS,
        **REWARD,
        **read_from(
            SDAR_ALFWORLD,
            {
                "model": "qwen2.5-3b",
                "benchmark": "alfworld",
                "suite": "real",
                "method": "sdar",
                "method_options.beta": 5.0,
                "method_options.lambda_distill": 0.01,
                "updates": 150,
                "rollout.tasks": 16,
                "rollout.group": 8,
                "rollout.max_turns": 50,
                "rollout.max_response_tokens": 512,
                "objective.kl": 0.01,
                "objective.invalid_penalty": 0.1,
                "optim.lr": 1e-6,
                "optim.minibatch": 256,
                "evaluation.every": 5,
                "evaluation.temperature": 0.4,
            },
        ),
        **read_from(f"{SDAR_ALFWORLD}: prompt 2048 + response 512", {"rollout.max_context_tokens": 2560}),
        **read_from(VERL_AGENT_PROMPT, {"rollout.show_actions": True}),
        **read_from(VERL_AGENT, {"rollout.window": 2, "evaluation.split": "valid_seen"}),
    },
    deviations={
        **ALFWORLD_DEVIATIONS,
        "teacher": _TEACHER,
        "other models": other_models(_MODELS, SDAR_SCRIPTS),
    },
)

SEARCHQA = PaperRecipe(
    name="sdar-searchqa",
    paper="SDAR, arXiv 2605.15155",
    fields={
        **TRAINER,
        **ROWS,
        **HISTORY,
        **CUT,
        **ENTROPY_BONUS,
        **read_from(
            SDAR_SEARCH,
            {
                "model": "qwen2.5-3b",
                "benchmark": "searchqa",
                "suite": "real",
                "method": "sdar",
                "method_options.beta": 5.0,
                "method_options.lambda_distill": 0.01,
                "updates": 150,
                "rollout.tasks": 128,
                "rollout.group": 8,
                "rollout.max_turns": 4,
                "rollout.window": 4,
                "rollout.max_response_tokens": 512,
                "objective.kl": 0.001,
                "objective.invalid_penalty": 0.01,
                "optim.lr": 1e-6,
                "optim.minibatch": 256,
                "optim.warmup": 0.1,
                "evaluation.every": 150,
                "evaluation.split": "test",
            },
        ),
        **read_from(f"{SDAR_SEARCH}: prompt 4096 + response 512", {"rollout.max_context_tokens": 4608}),
        **read_from(VERL_AGENT, {"env_options.topk": 3, "evaluation.temperature": 0.0}),
        **E5,
    },
    deviations={
        **SEARCH_DEVIATIONS,
        "teacher": _TEACHER,
        "other models": other_models(_MODELS, SDAR_SCRIPTS),
    },
)

_OF_REWARDS = {*ROWS, "objective.invalid_penalty"}

OPSD_ALFWORLD = replace(
    ALFWORLD,
    name="sdar-opsd-alfworld",
    paper="SDAR, arXiv 2605.15155, its row OPSD",
    fields={
        **{path: field for path, field in ALFWORLD.fields.items() if path not in _OF_REWARDS},
        **read_from(f"{SDAR_SCRIPTS}: pg_loss_coef 0", {"method_options.base": "none"}),
    },
)
"""What StepOPSD's table compares with under this name too: the gated loss alone, without a policy gradient."""

ALL = (ALFWORLD, SEARCHQA, OPSD_ALFWORLD)

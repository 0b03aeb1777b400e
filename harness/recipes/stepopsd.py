"""StepOPSD's recipes (arXiv 2605.27140): the paper where it speaks, then the authors' script.

The authors published a script for Search-QA and nothing for ALFWorld; what the paper leaves out there is taken from
GiGPO's recipe, whose batch and lengths it has.
"""

from __future__ import annotations

from dataclasses import replace

from stepcredit.harness.recipes import gigpo
from stepcredit.harness.recipes.places import OURS, SEARCH_R1, STEPOPSD_CODE, STEPOPSD_PAPER, STEPOPSD_SCRIPT
from stepcredit.harness.recipes.recipe import Deviation, PaperRecipe, not_published, read_from
from stepcredit.harness.recipes.verl_agent import other_models

_BOTH = f"{STEPOPSD_PAPER}; {STEPOPSD_SCRIPT}"
_MODELS = other_models("Qwen3-1.7B (--model qwen3-1.7b)", STEPOPSD_PAPER)

_METHOD = read_from(
    STEPOPSD_PAPER,
    {
        "model": "qwen2.5-3b",
        "method": "stepopsd",
        "method_options.alpha_clip": 0.2,
        "method_options.lambda_mix": 0.2,
        "method_options.decay_updates": 50,
        "method_options.weight": "sigmoid",
        "method_options.budget": True,
        "method_options.hindsight": "peer_traj",
        "method_options.teacher": "stale_ref_policy",
        "method_options.refresh": 10,
        "method_options.student": "causal_prefix",
    },
)

_CODE = read_from(
    STEPOPSD_CODE,
    {
        "method_options.taught": "losers",
        "method_options.block": "target",
        "method_options.tags": True,
        "method_options.hindsight_text": "full",
    },
)
"""Of which the paper says nothing."""

ALFWORLD = PaperRecipe(
    name="stepopsd-alfworld",
    paper="StepOPSD, arXiv 2605.27140",
    fields={
        **not_published(gigpo.FOR_EPISODES),
        **_METHOD,
        **_CODE,
        **read_from(
            STEPOPSD_PAPER,
            {
                "benchmark": "alfworld",
                "suite": "real",
                "method_options.target": "action_only",
                "rollout.tasks": 16,
                "rollout.group": 8,
                "rollout.max_response_tokens": 512,
            },
        ),
        **read_from(f"{STEPOPSD_PAPER}: prompt 2048 + response 512", {"rollout.max_context_tokens": 2560}),
    },
    deviations={**not_published(gigpo.ALFWORLD.deviations), "other models": _MODELS},
)

SEARCHQA = PaperRecipe(
    name="stepopsd-searchqa",
    paper="StepOPSD, arXiv 2605.27140",
    fields={
        **_METHOD,
        **_CODE,
        **read_from(
            STEPOPSD_PAPER,
            {
                "benchmark": "searchqa",
                "suite": "real",
                "env_options.topk": 3,
                "env_options.retriever.engine": "dense",
                "method_options.target": "clean_step_no_observation",
                "rollout.tasks": 128,
            },
        ),
        **read_from(
            STEPOPSD_SCRIPT,
            {
                "env_options.searches": 20,
                "method_options.outcome_line": True,
                "updates": 1005,
                "rollout.group": 5,
                "rollout.max_response_tokens": 1024,
                "rollout.max_observation_tokens": 512,
                "rollout.temperature": 1.0,
                "objective.kl": 0.001,
                "optim.lr": 1e-6,
                "optim.minibatch": 256,
                "optim.warmup": 0.285,
                "evaluation.every": 10,
                "evaluation.split": "test",
            },
        ),
        **read_from(f"{STEPOPSD_SCRIPT}: 20 turns, and one for the answer", {"rollout.max_turns": 21}),
        **read_from(f"{STEPOPSD_SCRIPT}: prompt 4096 + response 1024", {"rollout.max_context_tokens": 5120}),
        **read_from(f"{STEPOPSD_SCRIPT}: there is none", {"objective.invalid_penalty": 0.0}),
        **read_from(
            STEPOPSD_CODE,
            {
                "rollout.window": None,
                "rollout.top_p": 0.95,
                "objective.aggregation": "token_mean",
                "objective.clip_low": 0.2,
                "objective.clip_high": 0.2,
                "objective.entropy": 0.001,
                "objective.reference": "teacher",
                "optim.beta1": 0.9,
                "optim.beta2": 0.999,
                "optim.weight_decay": 0.01,
                "optim.grad_clip": 1.0,
                "evaluation.temperature": 0.0,
            },
        ),
        **read_from(OURS, {"optim.token_budget": 16384, "optim.recompute": True}),
    },
    deviations={
        "batch": Deviation("128 questions in the paper, 64 in the script", "128", _BOTH),
        "start": Deviation(
            "a checkpoint of Search-R1, trained on the same task (SearchR1-nq_hotpotqa_train-qwen2.5-3b-it-em-grpo)",
            "the instruct model that the paper names",
            STEPOPSD_SCRIPT,
        ),
        "training questions": Deviation(
            "NQ and HotpotQA in the paper, r1searcher_stage1 in the script",
            "the suite's",
            _BOTH,
        ),
        "corpus": Deviation("wiki-18, 21 million passages", "the suite's", SEARCH_R1),
        "other models": _MODELS,
    },
)

_TOLD = ("method_options.taught", "method_options.hindsight_text", "method_options.outcome_line")

SEARCHQA_SCRIPT = replace(
    SEARCHQA,
    name="stepopsd-searchqa-script",
    fields={
        **{path: field for path, field in SEARCHQA.fields.items() if path not in _TOLD},
        **read_from(
            f"{STEPOPSD_SCRIPT}: OPSD_HINDSIGHT_INFO_MODE none, final correctness on",
            {"method_options.hindsight": "outcome"},
        ),
        **read_from(STEPOPSD_SCRIPT, {"rollout.tasks": 64}),
    },
    deviations={topic: item for topic, item in SEARCHQA.deviations.items() if topic != "batch"},
)
"""As the authors' script runs if nothing is said: no peer, the teacher is told how the very episode ended."""

ALL = (ALFWORLD, SEARCHQA, SEARCHQA_SCRIPT)

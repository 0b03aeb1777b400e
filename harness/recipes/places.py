"""Where the recipes were read: the short names that stand as sources, and the places themselves.

verl-agent's files were read as SDAR's repository holds them at the commit named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

OURS = "(ours)"
"""The source of what no paper says."""

GIGPO_PAPER = "GiGPO's appendix E.1"
GIGPO_ALFWORLD = "GiGPO's run_alfworld.sh"
GIGPO_SEARCH = "GiGPO's run_search.sh"
SDAR_PAPER = "SDAR's paper"
SDAR_ALFWORLD = "SDAR's run_alfworld_3b.sh"
SDAR_SEARCH = "SDAR's run_search_3b.sh"
SDAR_SCRIPTS = "SDAR's other scripts"
SDAR_SKILLS = "SDAR's skills"
STEPOPSD_PAPER = "StepOPSD's paper"
STEPOPSD_SCRIPT = "StepOPSD's train_grpo_4.sh"
STEPOPSD_CODE = "StepOPSD's code"
RLSD_SCRIPT = "RLSD's rlsd_train.sh"
RLSD_CONFIG = "RLSD's rlsd_config.yaml"
RLCSD_CONFIG = "RLCSD's qwen3_4b_rlcsd.yaml"
RLCSD_CODE = "RLCSD's code"
AGENTOPSD_SCRIPT = "AgentOPSD's run_alfworld_3b.sh"
AGENTOPSD_CODE = "AgentOPSD's code"
OPSD_SCRIPT = "OPSD's run_opsd.sh"
OPSD_CODE = "OPSD's code"
VINEPPO_CONFIG = "VinePPO's ppo_MATH.jsonnet"
SEARCH_R1 = "Search-R1"
VERL_AGENT = "verl-agent's default"
VERL_AGENT_CODE = "verl-agent's code"
VERL_AGENT_PROMPT = "verl-agent's prompt"
VERL_AGENT_RETRIEVER = "verl-agent's retriever"

_SDAR = "https://github.com/ZJU-REAL/SDAR/blob/8b85c23"
_STEPOPSD = "https://github.com/yanfei-zhang-95/OPSD_experiment_SearchR1/blob/79c114c"

_RLSD = "https://github.com/iie-ycx/RLSD/blob/93e46f7/examples/visual_rl"
_RLCSD = "https://github.com/THU-BPM/RLCSD/blob/7eeff3c"
_AGENTOPSD = "https://github.com/ZethWang/AgentOPSD/blob/0c478b2"
_OPSD = "https://github.com/siyan-zhao/OPSD/blob/590ec26"

PLACES: Mapping[str, str] = {
    GIGPO_PAPER: "https://arxiv.org/abs/2505.10978v3",
    GIGPO_ALFWORLD: f"{_SDAR}/examples/gigpo_trainer/run_alfworld.sh",
    GIGPO_SEARCH: f"{_SDAR}/examples/gigpo_trainer/run_search.sh",
    SDAR_PAPER: "https://arxiv.org/abs/2605.15155",
    SDAR_ALFWORLD: f"{_SDAR}/examples/sdar_trainer/run_alfworld_3b.sh",
    SDAR_SEARCH: f"{_SDAR}/examples/sdar_trainer/run_search_3b.sh",
    SDAR_SCRIPTS: f"{_SDAR}/examples/sdar_trainer",
    SDAR_SKILLS: f"{_SDAR}/skills",
    STEPOPSD_PAPER: "https://arxiv.org/abs/2605.27140",
    STEPOPSD_SCRIPT: f"{_STEPOPSD}/train_grpo_4.sh",
    STEPOPSD_CODE: f"{_STEPOPSD}/verl (config/ppo_trainer.yaml, ppo/*.py, workers) and /search_r1",
    RLSD_SCRIPT: f"{_RLSD}/rlsd_train.sh",
    RLSD_CONFIG: f"{_RLSD}/rlsd_config.yaml",
    RLCSD_CONFIG: f"{_RLCSD}/configs/logic_kk/qwen3_4b_rlcsd.yaml",
    RLCSD_CODE: f"{_RLCSD}/src/self_distill_main.py, third_party/verl/verl/trainer/ppo/core_algos.py",
    AGENTOPSD_SCRIPT: f"{_AGENTOPSD}/examples/agentopsd_trainer/run_alfworld_3b.sh",
    AGENTOPSD_CODE: f"{_AGENTOPSD}/verl/trainer/ppo/opsd_utils.py",
    OPSD_SCRIPT: f"{_OPSD}/scripts/run_opsd.sh",
    OPSD_CODE: f"{_OPSD}/opsd_trainer.py",
    VINEPPO_CONFIG: "https://github.com/McGill-NLP/VinePPO, configs/trainers/ppo_MATH.jsonnet",
    SEARCH_R1: "https://arxiv.org/abs/2503.09516",
    VERL_AGENT: f"{_SDAR}/verl/trainer/config/ppo_trainer.yaml, verl/workers/fsdp_workers.py",
    VERL_AGENT_CODE: f"{_SDAR}/verl/trainer/ppo, agent_system/environments",
    VERL_AGENT_PROMPT: f"{_SDAR}/agent_system/environments/prompts",
    VERL_AGENT_RETRIEVER: f"{_SDAR}/examples/search/retriever/retrieval_launch.sh",
}


def places_of(sources: Iterable[str]) -> dict[str, str]:
    """The places that some sources name, by short name."""
    text = "\n".join(sources)
    return {name: place for name, place in PLACES.items() if name in text}

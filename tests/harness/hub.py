"""A hub's cache with a small random model in the standard layout, as real ones lie there."""

import hashlib
from pathlib import Path

import torch
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM
from transformers.utils.logging import disable_progress_bar

from tests.harness.model.templates import family

QWEN = "Qwen/Qwen2.5-3B-Instruct"
QWEN_7B = "Qwen/Qwen2.5-7B-Instruct"
SPARE_ROWS = 271  # Qwen2.5-3B has as many: 151,936 for 151,665 tokens
SPARE_ROWS_7B = 399  # and Qwen2.5-7B, with the same tokenizer: 152,064


def put_qwen(home: Path, name: str = QWEN, *, spare: int = SPARE_ROWS, layers: int = 2) -> str:
    """Write a model of that name into HF_HOME `home`; returns its commit.

    As on the real hub the weights are bfloat16, the output has rows beyond the tokenizer's tokens, and the generation
    config brings sampling defaults that a trainer must not use.
    """
    tokenizer, commit = family("chatml"), hashlib.sha1(name.encode()).hexdigest()
    base = home / "hub" / f"models--{name.replace('/', '--')}"
    snapshot = base / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (base / "refs").mkdir()
    (base / "refs" / "main").write_text(commit)
    model = random_qwen(len(tokenizer) + spare, layers)
    model.generation_config = GenerationConfig(do_sample=True, temperature=0.7, top_p=0.8, top_k=20)
    disable_progress_bar()
    model.save_pretrained(snapshot)
    tokenizer.save_pretrained(snapshot)
    return commit


def random_qwen(rows: int, layers: int = 2) -> Qwen2ForCausalLM:
    """Layers of bfloat16, from a seed."""
    config = Qwen2Config(
        vocab_size=rows,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32768,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Qwen2ForCausalLM(config).to(torch.bfloat16)

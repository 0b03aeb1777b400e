"""A tiny BERT of random weights, and passages of the words that it knows."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from stepcredit.envs.searchqa.corpus import Corpus, Passage

WORDS = [
    "ada",
    "bell",
    "crow",
    "dusk",
    "elm",
    "fern",
    "gale",
    "hawk",
    "iris",
    "jade",
    "kelp",
    "lark",
    "moss",
    "nile",
    "oak",
    "pine",
    "quay",
    "rain",
    "sage",
    "tern",
]
CORPUS = Corpus.of(
    Passage(f"p{number}", WORDS[number % 20].title(), " ".join(WORDS[(number * step) % 20] for step in range(1, 9)))
    for number in range(90)
)


def write_encoder(folder: Path, size: int = 32) -> Path:
    """The folder, with a model of that many dimensions as from_pretrained wants it."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    inner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer()
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    texts = [f"query: passage: {passage.title} {passage.text}" for passage in CORPUS.passages]
    inner.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special))
    inner.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    named = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=inner, **named).save_pretrained(folder)
    shape = {"hidden_size": size, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=inner.get_vocab_size(), initializer_range=0.5, **shape)).save_pretrained(folder)
    return folder

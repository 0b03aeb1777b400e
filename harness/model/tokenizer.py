"""A tokenizer made of phrases, with bytes for everything else: short transcripts, and no text is lost."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerFast

PAD = "<|pad|>"
OBSERVATION = "<|obs|>"
TURN = "<|act|>"
HINDSIGHT = "<|hint|>"
TAGS = ("<think>", "</think>", "<action>", "</action>")


def phrase_tokenizer(phrases: Sequence[str]) -> PreTrainedTokenizerFast:
    """A tokenizer that takes the longest phrase at every place and single bytes between phrases."""
    alphabet = sorted(ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE(vocab={symbol: index for index, symbol in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens([PAD, OBSERVATION, TURN, HINDSIGHT])
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in (*TAGS, *phrases)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, clean_up_tokenization_spaces=False)


def token_bytes_table(tokenizer: PreTrainedTokenizerFast) -> list[bytes]:
    """The bytes each token id stands for; special tokens stand for their literal text.

    Exact for byte-level tokenizers (GPT-2, Qwen, SmolLM and our own), whose vocabulary writes a byte as
    one printable character.
    """
    byte_of = _byte_of_symbol()
    added = {index: token.content for index, token in tokenizer.added_tokens_decoder.items()}
    size = max(len(tokenizer), max(added, default=-1) + 1)
    table: list[bytes] = []
    for index in range(size):
        if index in added:
            table.append(added[index].encode())
        else:
            symbol = tokenizer.convert_ids_to_tokens(index) or ""
            table.append(bytes(byte_of[character] for character in symbol if character in byte_of))
    return table


def _byte_of_symbol() -> dict[str, int]:
    """The inverse of GPT-2's printable byte alphabet: printable bytes stand for themselves, the others follow 255."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}

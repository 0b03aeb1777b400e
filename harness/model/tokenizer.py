"""A tokenizer made of phrases, with bytes for everything else: short transcripts, and no text is lost."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence

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


def special_tokens(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    """Id by text of every token that is marked as special."""
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    vocabulary = tokenizer.get_vocab()
    return {text: vocabulary[text] for text in sorted(added.union(tokenizer.all_special_tokens))}


def literal_encoder(tokenizer: PreTrainedTokenizerFast, control: Iterable[str]) -> Callable[[str], list[int]]:
    """An encoder for texts from outside: control tokens that occur in them are written out, letter by letter.

    All other added tokens stay tokens. It works on a copy, because transformers' `split_special_tokens` leaves a
    tokenizer changed for whoever uses it next.
    """
    backend = copy.deepcopy(tokenizer.backend_tokenizer)
    backend.no_truncation()
    backend.no_padding()
    backend.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in control])
    backend.encode_special_tokens = True
    return lambda text: list(backend.encode(text, add_special_tokens=False).ids)


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


def is_byte_level(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether `token_bytes_table` is exact: the bytes of a text's tokens are the text's."""
    text, table = "Go to shelf 1.\n\n\té 世界", token_bytes_table(tokenizer)
    return b"".join(table[index] for index in tokenizer.encode(text, add_special_tokens=False)) == text.encode()


def _byte_of_symbol() -> dict[str, int]:
    """The inverse of GPT-2's printable byte alphabet: printable bytes stand for themselves, the others follow 255."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}

"""The phrase tokenizer and both transcript formats: no byte is lost, boundaries never move."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerFast

from stepcredit.envs.alfworld.assets import load_assets
from stepcredit.envs.alfworld.phrases import phrases
from stepcredit.envs.alfworld.text import INSTRUCTIONS
from stepcredit.harness.model.chat import ChatTranscript
from stepcredit.harness.model.tokenizer import phrase_tokenizer, token_bytes_table
from stepcredit.harness.model.transcript import PhraseTranscript, Transcript

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _alfworld() -> PreTrainedTokenizerFast:
    assets = load_assets()
    return phrase_tokenizer(phrases(assets.fits, frozenset().union(*assets.fits.values()), ("Cabinet",)))


def _chat() -> PreTrainedTokenizerFast:
    alphabet = sorted(ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE(vocab={symbol: index for index, symbol in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    fast.chat_template = CHATML
    return fast


PHRASE = PhraseTranscript(_alfworld())
CHAT = ChatTranscript(_chat(), INSTRUCTIONS)


def _text(transcript: Transcript, ids: list[int]) -> str:
    return b"".join(transcript.token_bytes(index) for index in ids).decode()


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_no_text_is_lost(text: str) -> None:
    assert _text(PHRASE, PHRASE.following(text)) == f"<|obs|>{text}<|act|>"


def test_an_instance_is_one_token_and_the_longest_phrase_wins() -> None:
    assert len(PHRASE.response("<think> find mug</think><action>go to cabinet 12</action>")) == 8
    assert PHRASE.response(" cabinet 1") != PHRASE.response(" cabinet 12")[:1]


@pytest.mark.parametrize("transcript", [PHRASE, CHAT], ids=["phrase", "chat"])
def test_every_prompt_ends_in_the_generation_suffix(transcript: Transcript) -> None:
    suffix = list(transcript.generation_suffix)
    assert transcript.first("a room")[-len(suffix) :] == suffix
    assert transcript.following("an answer")[-len(suffix) :] == suffix


def test_chat_pieces_concatenate_to_the_rendered_template() -> None:
    tokenizer = _chat()
    first, reply, second = CHAT.first("a room"), "<action>look</action>", CHAT.following("nothing")
    messages = [
        {"role": "user", "content": "a room"},
        {"role": "assistant", "content": reply},
        {"role": "user", "content": "nothing"},
    ]
    rendered = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    assert (_text(CHAT, first) + reply + _text(CHAT, second)).endswith(rendered)


def test_chat_hindsight_stays_inside_the_user_message() -> None:
    prompt, suffix = CHAT.first("a room"), len(CHAT.generation_suffix)
    hinted = _text(CHAT, [*prompt[:-suffix], *CHAT.hindsight("go to shelf 1"), *prompt[-suffix:]])
    assert hinted.index("go to shelf 1") < hinted.rindex("<|im_end|>") < hinted.rindex("<|im_start|>assistant")


def test_the_byte_table_covers_every_token() -> None:
    table = token_bytes_table(_chat())
    assert sorted(token for token in table if len(token) == 1) == [bytes([byte]) for byte in range(256)]
    assert table[-2:] == [b"<|im_start|>", b"<|im_end|>"]

"""Chat templates of several families, tokenizers for them, and what a template makes of a conversation."""

import json
import re
from collections.abc import Mapping, Sequence

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerFast

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA = (
    "{% for m in messages %}{% if loop.first %}{{ bos_token }}{% endif %}"
    "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
_GEMMA_TURN = (
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ first }}{{ m.content | trim }}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% for m in messages %}" + _GEMMA_TURN
)
GEMMA_MERGING = (
    "{{ bos_token }}{% set told = '' %}{% if messages[0].role == 'system' %}"
    "{% set told = messages[0].content ~ '\n\n' %}{% set messages = messages[1:] %}{% endif %}"
    "{% for m in messages %}{% set first = told if loop.first else '' %}" + _GEMMA_TURN
)
THINKING = (
    "{%- set seen = namespace(user=-1) -%}{%- for m in messages -%}{%- if m.role == 'user' -%}"
    "{%- set seen.user = loop.index0 -%}{%- endif -%}{%- endfor -%}"
    "{%- for m in messages -%}{%- set text = m.content -%}{%- if m.role == 'assistant' and '</think>' in text -%}"
    "{%- set thought = text.split('</think>')[0].split('<think>')[-1].strip('\n') -%}"
    "{%- set text = text.split('</think>')[-1].lstrip('\n') -%}{%- if loop.index0 > seen.user -%}"
    "{%- set text = '<think>\n' ~ thought ~ '\n</think>\n\n' ~ text -%}{%- endif -%}{%- endif -%}"
    "{{ '<|im_start|>' ~ m.role ~ '\n' ~ text ~ '<|im_end|>\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false -%}{{ '<think>\n\n</think>\n\n' }}{%- endif -%}"
    "{%- endif -%}"
)
TEMPLATES: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    "chatml": (CHATML, "<|im_end|>", ("<|endoftext|>", "<|im_start|>", "<|im_end|>")),
    "llama-3": (
        LLAMA,
        "<|eot_id|>",
        ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    ),
    "gemma": (GEMMA, "<end_of_turn>", ("<bos>", "<start_of_turn>", "<end_of_turn>")),
    "gemma-merging": (GEMMA_MERGING, "<end_of_turn>", ("<bos>", "<start_of_turn>", "<end_of_turn>")),
    "qwen3-thinking": (THINKING, "<|im_end|>", ("<|endoftext|>", "<|im_start|>", "<|im_end|>")),
}
"""Template, end of turn and control tokens; the first token of the Llama and Gemma families begins a text."""

_MERGES = [("Ċ", "Ċ"), ("r", "Ċ"), ("rĊ", "ĊĊ"), ("l", "Ċ"), ("Ċ", "D"), (".", "Ċ"), ("<", "|"), ("|", ">"), ("o", "c")]


def byte_tokenizer(
    template: str, control: Sequence[str], *, special: bool = True, plain: Sequence[str] = ("<think>", "</think>")
) -> PreTrainedTokenizerFast:
    """Byte-level BPE without a pre-tokenizer's borders: role, new lines and text merge wherever they can."""
    vocab = {symbol: index for index, symbol in enumerate(sorted(ByteLevel.alphabet()))}
    for one, other in _MERGES:
        vocab.setdefault(one + other, len(vocab))
    tokenizer = Tokenizer(BPE(vocab=vocab, merges=_MERGES))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.add_tokens([AddedToken(text, normalized=False, special=special) for text in control])
    if special:
        tokenizer.add_special_tokens(list(control))
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in plain])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    if special:
        fast.bos_token = control[0]
    fast.chat_template = template
    return fast


def family(name: str) -> PreTrainedTokenizerFast:
    template, _, control = TEMPLATES[name]
    return byte_tokenizer(template, control)


class Oracle:
    """What a template makes of a conversation, with control tokens that no text contains and the same ids."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, control: Sequence[str], end: str, *, system: bool) -> None:
        self._control, self._system = set(control), system
        self.end = int(tokenizer.convert_tokens_to_ids(end))
        layout = json.loads(tokenizer.backend_tokenizer.to_str())
        for token in layout["added_tokens"]:
            token["content"] = self._renamed(token["content"]) if token["content"] in control else token["content"]
        self._twin = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(layout)))
        if tokenizer.bos_token:
            self._twin.bos_token = self._renamed(tokenizer.bos_token)
        self._twin.chat_template = re.sub(
            "|".join(map(re.escape, control)), lambda found: self._renamed(found[0]), str(tokenizer.chat_template)
        )

    def tokens(self, instructions: str, observations: Sequence[str], responses: Sequence[Sequence[int]]) -> list[int]:
        """The template's text between the responses, each stretch tokenized as a whole; in between, the responses."""
        texts = [observations[0]]
        for number, observation in enumerate(observations[1:]):
            texts += [f"\ue100{number}\ue101", observation]
        messages = [{"role": ("user", "assistant")[k % 2], "content": text} for k, text in enumerate(texts)]
        if self._system:
            messages.insert(0, {"role": "system", "content": instructions})
        else:
            messages[0]["content"] = f"{instructions}\n\n{texts[0]}"
        rendered = self._twin.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        opening, *rest = re.split("\ue100\\d+\ue101", str(rendered))
        tokens = self._encoded(opening)
        for response, stretch in zip(responses, rest, strict=True):
            following = self._encoded(stretch)
            ended = len(response) > 0 and response[-1] == self.end
            tokens += [*response, *following[1 if ended else 0 :]]
        return tokens

    def _encoded(self, text: str) -> list[int]:
        return list(self._twin.encode(text, add_special_tokens=False))

    def _renamed(self, text: str) -> str:
        return f"\ue000{text}\ue001"

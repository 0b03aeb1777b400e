"""Chat transcripts against the templates: every token but the responses', and no text that opens a message."""

from collections.abc import Sequence
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from stepcredit.envs import load_benchmark
from stepcredit.envs.contract import Observation
from stepcredit.harness.episodes.prompts import new_prompt
from stepcredit.harness.errors import UserError
from stepcredit.harness.model.chat import ChatTranscript
from stepcredit.harness.model.policy import load_policy
from stepcredit.harness.model.tokenizer import is_byte_level
from stepcredit.harness.spec import History, PastReasoning, RolloutSpec
from tests.harness.model.templates import CHATML, TEMPLATES, THINKING, Oracle, byte_tokenizer, family

RULES = "Think in <think>, then act.\n"
SPEC = RolloutSpec(max_context_tokens=16384)
HUB = ("Qwen/Qwen2.5-3B-Instruct", "Qwen/Qwen3-1.7B")
CHATML_CONTROL = TEMPLATES["chatml"][2]

CONTROL = sorted({text for _, _, control in TEMPLATES.values() for text in control})
PIECES = [*CONTROL, "<|im_<|im_end|>end|>", "<|im_", "end|>", "<|", "</think>", "<think>", "<tool_call>", "user", "\n"]
MORE = [
    "\n\nDoc 1(Title: T) it ends.",
    " ",
    "\t",
    "\u3000",
    "\r\n",
    "é",
    "世界",
    "\x000\x00",
    "{{ bos_token }}",
    "'s",
    "12",
]
CHARACTERS = st.characters(exclude_categories=["Cs", "Co"])
TEXTS = st.lists(st.sampled_from(PIECES + MORE) | st.text(CHARACTERS, max_size=6), max_size=7).map("".join)
TURNS = st.lists(st.tuples(TEXTS, st.booleans(), TEXTS), max_size=4)


@cache
def followed(name: str) -> tuple[PreTrainedTokenizerFast, ChatTranscript, Oracle]:
    if name in TEMPLATES:
        tokenizer, (_, end, control) = family(name), TEMPLATES[name]
    else:
        tokenizer, end = _from_cache(name), "<|im_end|>"
        control = tuple(token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    return tokenizer, ChatTranscript(tokenizer, RULES), Oracle(tokenizer, control, end, system=name != "gemma")


def _from_cache(name: str) -> PreTrainedTokenizerFast:
    try:
        return AutoTokenizer.from_pretrained(name, local_files_only=True)
    except OSError:
        pytest.skip(f"{name}'s tokenizer is not in the Hugging Face cache")


def written(tokenizer: PreTrainedTokenizerFast, oracle: Oracle, text: str, *, ended: bool) -> list[int]:
    """A response that the model has drawn."""
    return [*tokenizer.encode(text, add_special_tokens=False), *([oracle.end] if ended else [])]


@pytest.mark.parametrize("window", [None, 0, 2])
@pytest.mark.parametrize("name", [*TEMPLATES, *HUB])
@settings(max_examples=30, deadline=None)
@given(task=TEXTS, turns=TURNS)
def test_every_prompt_is_the_templates(
    name: str, window: int | None, task: str, turns: list[tuple[str, bool, str]]
) -> None:
    tokenizer, transcript, oracle = followed(name)
    prompt = new_prompt(transcript, SPEC.model_copy(update={"window": window}))
    assert prompt.begin(Observation(task, ()))
    observations, responses = [task], list[list[int]]()
    assert prompt.tokens.tolist() == oracle.tokens(RULES, observations, responses)
    for text, ended, answer in turns:
        responses.append(written(tokenizer, oracle, text, ended=ended))
        observations.append(answer)
        assert prompt.extend(responses[-1], Observation(answer, ())) is not None
        oldest = 0 if window is None else max(0, len(responses) - window)
        first = task if oldest == 0 else f"{task}\n{observations[oldest]}"
        expected = oracle.tokens(RULES, [first, *observations[oldest + 1 :]], responses[oldest:])
        assert prompt.tokens.tolist() == expected


@pytest.mark.parametrize("name", [*TEMPLATES, *HUB])
@settings(max_examples=60, deadline=None)
@given(text=TEXTS)
def test_no_text_becomes_a_control_token_and_none_is_lost(name: str, text: str) -> None:
    tokenizer, transcript, _ = followed(name)
    control = set(tokenizer.all_special_ids) | set(tokenizer.convert_tokens_to_ids(list(control_of(name))))
    for write in (transcript.first, transcript.following):
        plain, ours = write("a room"), write(f"x{text}x")
        assert [token for token in ours if token in control] == [token for token in plain if token in control]
    for write in (transcript.response, transcript.hindsight):
        assert control.isdisjoint(write(text))
    spelt = b"".join(map(transcript.token_bytes, transcript.response(text))).decode()
    assert spelt == (tokenizer.backend_tokenizer.normalizer.normalize_str(text) if name in HUB else text)


def control_of(name: str) -> Sequence[str]:
    return TEMPLATES[name][2] if name in TEMPLATES else CHATML_CONTROL


@pytest.mark.parametrize("name", [*TEMPLATES, *HUB])
@settings(max_examples=30, deadline=None)
@given(text=TEXTS, hint=TEXTS)
def test_a_hint_is_the_end_of_the_first_message(name: str, text: str, hint: str) -> None:
    _, transcript, oracle = followed(name)
    prompt = new_prompt(transcript, SPEC)
    assert prompt.begin(Observation(f"x{text}x", ()), f"{hint}x")
    shown = f"x{text}x Commands of an episode of this task that succeeded:\n{hint}x"
    assert prompt.tokens.tolist() == oracle.tokens(RULES, [shown], [])


@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("name", [*TEMPLATES, *HUB])
@settings(max_examples=30, deadline=None)
@given(text=TEXTS, limit=st.integers(40, 90))
def test_a_long_observation_is_a_shorter_one_of_the_template(name: str, ended: bool, text: str, limit: int) -> None:
    tokenizer, transcript, oracle = followed(name)
    prompt = new_prompt(transcript, SPEC.model_copy(update={"max_observation_tokens": limit}))
    prompt.begin(Observation("task", ()))
    response = written(tokenizer, oracle, "look", ended=ended)
    whole = f"x{text}.\n" + "you see é.\n\n" * 40
    assert prompt.extend(response, Observation(whole, (), "</information>")) is not None
    shorter = (whole[:end] + "</information>" for end in range(len(whole) + 1))
    assert any(oracle.tokens(RULES, ["task", cut], [response]) == prompt.tokens.tolist() for cut in shorter)
    shown = transcript.following(whole, "</information>", limit)
    assert limit - 4 <= len(shown) - len(transcript.generation_suffix) <= limit


@pytest.mark.parametrize("name", ["llama-3", "gemma", "gemma-merging"])
def test_a_text_begins_once(name: str) -> None:
    tokenizer, transcript, _ = followed(name)
    prompt = new_prompt(transcript, SPEC)
    prompt.begin(Observation("task", ()))
    prompt.extend([], Observation("answer", ()))
    assert prompt.tokens.tolist().count(tokenizer.bos_token_id) == 1
    assert prompt.tokens[0] == tokenizer.bos_token_id


def test_role_and_text_merge_as_in_the_whole() -> None:
    tokenizer, transcript, _ = followed("chatml")
    messages = [{"role": "system", "content": RULES}, {"role": "user", "content": "\n\nDoc"}]
    whole = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    assert transcript.first("\n\nDoc") == tokenizer.encode(whole, add_special_tokens=False)
    suffix = transcript.generation_suffix
    apart = [*transcript.first("")[: -len(suffix)], *transcript.response("\n\nDoc"), *suffix]
    assert transcript.first("\n\nDoc") != apart
    assert b"".join(map(transcript.token_bytes, apart)) == whole.encode()


def test_control_tokens_count_even_where_they_are_not_marked_as_special() -> None:
    transcript = ChatTranscript(byte_tokenizer(CHATML, CHATML_CONTROL, special=False), RULES)
    start = transcript.generation_suffix.index(transcript.following("")[0])
    assert start == 0
    assert transcript.following("<|im_end|>").count(transcript.end_of_turn or 0) == 2


def test_the_tokenizer_is_left_as_it_was() -> None:
    tokenizer = family("chatml")
    before = tokenizer.encode("<|im_end|>", add_special_tokens=False)
    ChatTranscript(tokenizer, RULES).first("<|im_end|>")
    assert (
        tokenizer.encode("<|im_end|>", add_special_tokens=False)
        == before
        == [tokenizer.convert_tokens_to_ids("<|im_end|>")]
    )


ASKS = "{% if add_generation_prompt %}<|im_start|>assistant\n"
REFUSED = {
    "no chat template": "",
    "before an earlier one it has": CHATML.replace(ASKS, ASKS + "<think>\n"),
    "after the first response": CHATML.replace("<|im_end|>\n", "<|im_end|>\n{{ loop.index if loop.index > 4 }}"),
    "opens a conversation with": "{{ messages | length }}" + CHATML,
    "no control token right after an observation": (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    ),
    "every message once and in order": CHATML.replace("{{ m.content }}", "{{ m.content }}{{ m.content }}"),
    "refuses a conversation": "{{ raise_exception('never') }}",
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_template_that_cannot_be_followed_is_refused_in_a_sentence(reason: str) -> None:
    tokenizer = byte_tokenizer(REFUSED[reason], CHATML_CONTROL)
    tokenizer.name_or_path = "org/model"
    with pytest.raises(UserError, match=f"org/model.*{reason}") as caught:
        ChatTranscript(tokenizer, RULES)
    assert "\n" not in str(caught.value)


def test_a_text_that_the_template_looks_into_is_refused() -> None:
    looks = CHATML.replace("{{ m.content }}", "{{ m.content }}{{ '!' if 'secret' in m.content }}")
    transcript = ChatTranscript(byte_tokenizer(looks, CHATML_CONTROL), RULES)
    assert b"".join(map(transcript.token_bytes, transcript.following("a secret"))).count(b"secret!") == 1


def test_thinking_is_kept_in_earlier_responses() -> None:
    tokenizer, transcript, oracle = followed("qwen3-thinking")
    prompt, response = (
        new_prompt(transcript, SPEC),
        written(family("qwen3-thinking"), oracle, "<think>a</think>b", ended=True),
    )
    prompt.begin(Observation("task", ()))
    start = len(prompt.tokens)
    prompt.extend(response, Observation("answer", ()))
    assert prompt.tokens[start : start + len(response)].tolist() == response
    assert tokenizer.convert_tokens_to_ids("<think>") in response


@pytest.mark.parametrize("thinking", [True, False])
def test_a_prompt_of_one_message_asks_for_thought_as_the_template_does(thinking: bool) -> None:
    tokenizer = family("qwen3-thinking")
    prompt = new_prompt(
        ChatTranscript(tokenizer, RULES, thinking),
        SPEC.model_copy(update={"window": 1, "history": History.ACTIONS, "thinking": thinking}),
    )
    prompt.begin(Observation("task", ()))
    asked = [{"role": "system", "content": RULES}, {"role": "user", "content": "task"}]
    official = tokenizer.apply_chat_template(
        asked, tokenize=False, add_generation_prompt=True, enable_thinking=thinking
    )
    assert prompt.tokens.tolist() == tokenizer.encode(official, add_special_tokens=False)
    assert official.endswith("<think>\n\n</think>\n\n") != thinking


@pytest.mark.parametrize("said", ["<think>a</think>\n\nb", "b", "<think>a", "<think>a</think>b</think>c"])
def test_earlier_reasoning_may_be_dropped_as_the_template_drops_it(said: str) -> None:
    tokenizer, transcript, oracle = followed("qwen3-thinking")
    prompt = new_prompt(transcript, SPEC.model_copy(update={"window": 2, "past_reasoning": PastReasoning.DROPPED}))
    prompt.begin(Observation("task", ()))
    prompt.extend(written(tokenizer, oracle, said, ended=True), Observation("answer", ()))
    told = [("system", RULES), ("user", "task"), ("assistant", said), ("user", "answer")]
    official = tokenizer.apply_chat_template(
        [{"role": role, "content": text} for role, text in told], tokenize=False, add_generation_prompt=True
    )
    assert prompt.tokens.tolist() == tokenizer.encode(official, add_special_tokens=False)


def test_thinking_without_effect_is_refused() -> None:
    with pytest.raises(UserError, match=r"rollout\.thinking has no effect: the chat template of .* knows no"):
        ChatTranscript(family("chatml"), RULES, thinking=False)
    with pytest.raises(UserError, match=r"rollout\.thinking has no effect on 'tiny'"):
        load_policy("tiny", load_benchmark("alfworld", "mini"), thinking=True)
    for chosen in ({"thinking": False}, {"past_reasoning": "dropped"}, {"window": 2, "thinking": True}):
        with pytest.raises(ValueError, match=r"needs rollout\.window"):
            RolloutSpec.model_validate(chosen)


def test_an_empty_thought_before_every_response_is_refused() -> None:
    without = byte_tokenizer(
        THINKING.replace("enable_thinking is defined and enable_thinking is false", "true"), CHATML_CONTROL
    )
    with pytest.raises(UserError, match="<think>"):
        ChatTranscript(without, RULES)


def test_byte_level_tokenizers_are_told_from_others() -> None:
    assert is_byte_level(family("chatml"))
    spaced = family("chatml")
    spaced.backend_tokenizer.pre_tokenizer.add_prefix_space = True
    assert not is_byte_level(spaced)

"""Spans against an oracle that sees the whole text at once."""

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.harness.engine.turns import TurnTracker
from stepcredit.harness.model.tokenizer import token_bytes_table
from stepcredit.methods.contract import Span
from tests.harness.support import merged_tokenizer

PIECES = (
    "<think>",
    "</think>",
    "<action>",
    "</action>",
    " go to shelf 1 ",
    "é",
    "<",
    ">",
    "</",
    "action>",
    "think",
    "",
)


def fed(pieces: list[bytes]) -> tuple[TurnTracker, list[bytes]]:
    """A tracker after the pieces, one token each, and the pieces it took before the turn was done."""
    tracker = TurnTracker(pieces.__getitem__)
    for index in range(len(pieces)):
        if tracker.push(index):
            return tracker, pieces[: index + 1]
    return tracker, pieces


def tokens_between(pieces: list[bytes], start: int, end: int) -> Span:
    starts = [sum(map(len, pieces[:index])) for index in range(len(pieces))]
    return Span(sum(place < start for place in starts), sum(place < end for place in starts))


@st.composite
def cut_texts(draw: st.DrawFn) -> list[bytes]:
    """A response, cut into tokens anywhere, even inside a character."""
    text = "".join(draw(st.lists(st.sampled_from(PIECES), max_size=12))).encode()
    cuts = sorted(draw(st.sets(st.integers(0, len(text)))) | {0, len(text)})
    return [text[a:b] for a, b in pairwise(cuts)]


@settings(max_examples=60)
@given(cut_texts())
def test_tracker_agrees_with_a_search_over_the_whole_text(pieces: list[bytes]) -> None:
    tracker, taken = fed(pieces)
    text = b"".join(taken)
    action = re.search(rb"<action>(.*?)</action>", text, re.DOTALL)
    assert (re.search(rb"<action>.*?</action>", b"".join(pieces), re.DOTALL) is not None) == tracker.done
    assert tracker.done == (action is not None)
    assert tracker.action == (tokens_between(taken, *action.span(1)) if action else None)
    assert tracker.action_text == (action[1].decode(errors="replace").strip() if action else "")
    think = re.search(rb"<think>(.*?)</think>", text.split(b"<action>")[0], re.DOTALL)
    assert tracker.think == (tokens_between(taken, *think.span(1)) if think else None)


@settings(max_examples=60)
@given(cut_texts())
def test_turn_is_done_with_the_first_token_that_completes_the_tag(pieces: list[bytes]) -> None:
    tracker, taken = fed(pieces)
    if tracker.done:
        assert not fed(taken[:-1])[0].done


def test_one_token_a_tag() -> None:
    tracker, _ = fed([b"<think>", b"see it", b"</think>", b"<action>", b" look", b" around ", b"</action>"])
    assert (tracker.think, tracker.action, tracker.action_text) == (Span(1, 2), Span(4, 6), "look around")


def test_tokens_shared_with_a_tag_belong_where_their_first_byte_lies() -> None:
    tracker, _ = fed([b"<think>a", b"b</think", b"><act", b"ion>go", b" on", b" now</ac", b"tion>!"])
    assert (tracker.think, tracker.action, tracker.action_text) == (Span(1, 2), Span(4, 6), "go on now")


@pytest.mark.parametrize("text", ["look</action>", "<action>look", "<think>x</think>look", ""])
def test_an_action_that_is_not_closed_or_not_opened_is_none(text: str) -> None:
    tracker, _ = fed([text.encode()])
    assert (tracker.done, tracker.action, tracker.action_text) == (False, None, "")


@settings(max_examples=60)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_byte_level_tokenizer_whose_tags_span_tokens(text: str) -> None:
    tokenizer = merged_tokenizer()
    table = token_bytes_table(tokenizer)
    pieces = [table[index] for index in tokenizer.encode(text)]
    assert b"".join(pieces) == text.encode()
    tracker, taken = fed(pieces)
    action = re.search(rb"<action>(.*?)</action>", b"".join(taken), re.DOTALL)
    assert tracker.action == (tokens_between(taken, *action.span(1)) if action else None)


def test_the_merged_tokenizer_does_merge_over_tag_borders() -> None:
    tokenizer = merged_tokenizer()
    table = token_bytes_table(tokenizer)
    pieces = [table[index] for index in tokenizer.encode("<think> a mug </think><action> go </action>")]
    assert any(b">" in piece and not piece.endswith(b">") for piece in pieces)
    assert all(tag not in pieces for tag in (b"<think>", b"</action>"))


SEARCH = ("search", "answer")


def told(text: str) -> TurnTracker:
    """A tracker of searches and answers after the text, one byte a token."""
    data = text.encode()
    tracker = TurnTracker(lambda index: data[index : index + 1], SEARCH)
    for index in range(len(data)):
        if tracker.push(index):
            break
    return tracker


@pytest.mark.parametrize(
    ("text", "action", "think"),
    [
        ("<think>a</think><search> b </search>", "<search>b</search>", "a"),
        ("<think>a</think><answer>b</answer><search>c</search>", "<answer>b</answer>", "a"),
        ("<search>b<answer>c</search>", "<search>b<answer>c</search>", None),
        ("<search></search>", "<search></search>", None),
        ("</search><answer>b</answer>", "<answer>b</answer>", None),
        ("<answer>b<think>a</think></answer>", "<answer>b<think>a</think></answer>", None),
    ],
)
def test_the_first_search_or_answer_is_the_action(text: str, action: str, think: str | None) -> None:
    tracker = told(text)
    assert tracker.done
    assert tracker.action_text == action
    assert tracker.action is not None
    assert text[slice(*tracker.action)].strip() == action.split(">", 1)[1].rsplit("<", 1)[0]
    assert (None if tracker.think is None else text[slice(*tracker.think)]) == think


@pytest.mark.parametrize("text", ["<search>a</answer>", "<answer>a</search>"])
def test_tags_that_do_not_match_end_the_turn_without_an_action(text: str) -> None:
    tracker = told(text + "<answer>b</answer>")
    assert (tracker.done, tracker.action, tracker.action_text) == (True, None, "")


def test_broken_utf8_in_an_action_is_replaced() -> None:
    pieces = [b"<answer>", b"\xff\xfe", b"</answer>"]
    tracker = TurnTracker(pieces.__getitem__, SEARCH)
    assert [tracker.push(index) for index in range(3)] == [False, False, True]
    assert tracker.action_text == "<answer>\ufffd\ufffd</answer>"

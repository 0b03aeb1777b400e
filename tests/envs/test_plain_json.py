"""JSON from outside: the value of `json.loads`, or one clause that says why there is none."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepcredit.envs.plain_json import MAX_DEPTH, JsonError, parse

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_values_come_back(value: object) -> None:
    assert parse(json.dumps(value)) == value
    assert parse(json.dumps(value).encode()) == value


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 1000, 100_000])
def test_deep_nesting_is_refused(opening: str, closing: str, depth: int) -> None:
    with pytest.raises(JsonError, match="nested deeper than 100 levels"):
        parse(opening * depth + "1" + closing * depth)
    with pytest.raises(JsonError):
        parse(opening * depth)


def test_the_deepest_that_is_allowed() -> None:
    assert parse("[" * MAX_DEPTH + "]" * MAX_DEPTH) is not None


@pytest.mark.parametrize("text", ["", "{", b"\xff", "nul", "1" * 5000])
def test_what_is_no_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(JsonError):
        parse(text)

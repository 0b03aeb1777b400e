"""Trees: every branch is learned as if it stood alone after what it follows."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from stepcredit.harness.warmstart.trees import Sapling, Tree, tree_loss
from tests.harness.support import toy_policy

MODEL, STUDENT = toy_policy(seed=1).model, toy_policy(seed=2).model
TOKENS = st.integers(1, 40)


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    trunk = draw(st.lists(TOKENS, min_size=4, max_size=12))
    tree = Sapling(trunk)
    start = draw(st.integers(1, len(trunk) - 1))
    tree.anchor(range(start, draw(st.integers(start, len(trunk)))))
    for _ in range(draw(st.integers(0, 3))):
        after = draw(st.integers(0, len(trunk) - 2))
        shown = draw(st.lists(TOKENS, max_size=3))
        if draw(st.booleans()):
            tree.branch(after, shown, draw(st.lists(TOKENS, min_size=1, max_size=4)))
        else:
            again = range(after + 1, draw(st.integers(after + 2, len(trunk))))
            tree.repeat(after, shown, again, [range(again.start, draw(st.integers(again.start, again.stop)))])
    return tree.grown()


def path(tree: Tree, row: int) -> list[int]:
    """The tokens that a row's own follows, and it."""
    found: list[int] = []
    while row != -1:
        found.insert(0, int(tree.token_ids[row]))
        row = int(tree.parents[row])
    return found


def expected(model: PreTrainedModel, tokens: list[int]) -> torch.Tensor:
    logprob_V: torch.Tensor = model(torch.tensor([tokens])).logits[0, -1].log_softmax(-1)
    return logprob_V


@torch.no_grad()
def alone(tree: Tree) -> float:
    """The same loss, token by token in plain sequences."""
    loss = 0.0
    for row in range(1, len(tree.token_ids)):
        if tree.weights[row] == 0.0 and tree.copied[row] == -1:
            continue
        logprob_V = expected(MODEL, path(tree, int(tree.parents[row])))
        loss -= float(tree.weights[row] * logprob_V[tree.token_ids[row]])
        if tree.copied[row] != -1:
            teacher_V = expected(STUDENT, [int(token) for token in tree.token_ids[: tree.copied[row] + 1]])
            loss -= float((teacher_V.exp() * logprob_V).sum())
    return loss


@settings(deadline=None, max_examples=25)
@given(st.lists(trees(), min_size=1, max_size=3))
def test_a_batch_of_trees_is_learned_as_its_branches_alone(part: list[Tree]) -> None:
    assert float(tree_loss(MODEL, STUDENT, part).detach()) == pytest.approx(sum(map(alone, part)), abs=1e-3)
    assert sum(tree.total for tree in part) == sum(float((tree.weights + (tree.copied >= 0)).sum()) for tree in part)


def test_what_the_student_expects_already_has_no_gradient() -> None:
    tree = Sapling([3, 4, 5, 6])
    tree.anchor(range(2, 4))
    model = deepcopy(STUDENT)
    tree_loss(model, STUDENT, [tree.grown()]).backward()
    assert max(float(p.grad.abs().max()) for p in model.parameters() if p.grad is not None) < 1e-6


def test_a_repeated_part_is_held_to_what_came_without_the_block() -> None:
    tree = Sapling([3, 4, 5, 6, 7])
    tree.repeat(0, [9], range(2, 5), [range(3, 5)])
    grown = tree.grown()
    assert grown.token_ids.tolist() == [3, 4, 5, 6, 7, 9, 5, 6, 7]
    assert grown.parents.tolist() == [-1, 0, 1, 2, 3, 0, 5, 6, 7]
    assert grown.copied.tolist() == [*[-1] * 7, 2, 3]
    assert np.flatnonzero(grown.sight()[8]).tolist() == [0, 5, 6, 7, 8]

"""Rollouts of made-up tokens and rescorers that answer by rule: those of the law suite, under one roof."""

from stepcredit.methods.laws import (
    GapRescorer,
    HashRescorer,
    make_group,
    make_step,
    make_trajectory,
    one_word_group,
    random_group,
)
from stepcredit.methods.laws.groups import EVERYTHING, equal_groups_for, groups_for

__all__ = [
    "GapRescorer",
    "HashRescorer",
    "equal_groups",
    "groups",
    "make_group",
    "make_step",
    "make_trajectory",
    "one_word_group",
    "random_group",
]

groups = groups_for(EVERYTHING)
equal_groups = equal_groups_for(EVERYTHING)

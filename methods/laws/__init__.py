"""The laws that methods keep to by their traits, for methods of ours and of other packages.

One test a law, in a test file of your own: ``test_laws = law_tests("late_credit")``. Needs `hypothesis`, and `pytest`
for `law_tests`; nothing else in `methods` imports this package.
"""

from stepcredit.methods.laws.groups import (
    furnished,
    make_group,
    make_step,
    make_trajectory,
    one_word_group,
    random_group,
)
from stepcredit.methods.laws.rescorers import GapRescorer, HashRescorer
from stepcredit.methods.laws.suite import Law, check_laws, law_tests, laws_of
from stepcredit.methods.laws.trial import LawBroken

__all__ = [
    "GapRescorer",
    "HashRescorer",
    "Law",
    "LawBroken",
    "check_laws",
    "furnished",
    "law_tests",
    "laws_of",
    "make_group",
    "make_step",
    "make_trajectory",
    "one_word_group",
    "random_group",
]

"""Named seeds and the stateless generator."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stepcredit.harness.seeds import seed_for, turn_seed, uniforms


def test_a_seed_is_the_same_on_every_machine() -> None:
    # sha256 of "str:turn\x1fint:0\x1fint:3\x1fstr:mini/train/Pick/0001\x1fint:2\x1fint:5", first 8 bytes, 63 bits
    assert turn_seed(0, 3, "mini/train/Pick/0001", 2, 5) == seed_for("turn", 0, 3, "mini/train/Pick/0001", 2, 5)
    assert seed_for("a", 1) == 0x7FFFFFFFFFFFFFFF & int.from_bytes(
        __import__("hashlib").sha256(b"str:a\x1fint:1").digest()[:8], "big"
    )


def test_numbers_and_their_texts_are_different_parts() -> None:
    assert seed_for(1) != seed_for("1")
    assert seed_for("ab", "c") != seed_for("a", "bc")


def test_splitmix64_matches_its_published_first_outputs() -> None:
    # Reference stream of splitmix64 seeded with 1234567 (Vigna's C code): 6457827717110365317, 3203168211198807973
    draws = uniforms(np.array([1234567, 1234567]), np.array([0, 1]))
    assert draws.tolist() == [(6457827717110365317 >> 11) * 2.0**-53, (3203168211198807973 >> 11) * 2.0**-53]


@given(st.lists(st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 4096)), min_size=2, max_size=30))
def test_a_draw_does_not_depend_on_the_batch_it_is_in(requests: list[tuple[int, int]]) -> None:
    seeds, positions = (np.array(column, dtype=np.int64) for column in zip(*requests, strict=True))
    together = uniforms(seeds, positions)
    alone = [uniforms(seeds[i : i + 1], positions[i : i + 1])[0] for i in range(len(requests))]
    assert together.tolist() == alone
    assert ((together >= 0) & (together < 1)).all()


def test_draws_are_uniform() -> None:
    draws = uniforms(np.arange(20000), np.zeros(20000, dtype=np.int64))
    counts, _ = np.histogram(draws, bins=20, range=(0, 1))
    # chi-square with 19 degrees of freedom: 43.8 is the 0.1% point
    assert float(((counts - 1000) ** 2 / 1000).sum()) < 43.8

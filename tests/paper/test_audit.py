"""The audit of printed tables: what it must find, and that it never accuses an honest one."""

import json
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.harness.cli.app import run
from stepcredit.paper.audit.audit import Asked, Kind, audited
from stepcredit.paper.audit.fractions import Percent, batched_power, power
from stepcredit.paper.audit.panels import Sizes
from stepcredit.paper.audit.table import PrintedTable, published, read_tables


def rounded(share: Fraction, rounding: str, digits: int = 1) -> str:
    exact = Decimal(100 * share.numerator) / Decimal(share.denominator)
    return str(exact.quantize(Decimal(1).scaleb(-digits), rounding=rounding))


def percent(text: str) -> Percent:
    found = Percent.parse(text)
    assert found is not None
    return found


def test_which_fractions_print_a_value() -> None:
    """66.25 prints as 66.3 half up and as 66.2 half to even."""
    assert list(percent("26.4").successes(125)) == [33]
    assert list(percent("59.7").successes(125)) == []
    assert list(percent("66.2").successes(80)) == [53]
    assert list(percent("66.3").successes(80)) == [53]
    assert list(percent("100").successes(7)) == [7]
    assert percent("59.7").batched(125, 1)
    assert not percent("59.5").batched(125, 1)


@pytest.mark.parametrize("text", ["n/a", "", "-", "101", "-3", "nan", "1e400"])
def test_what_is_no_percentage(text: str) -> None:
    assert Percent.parse(text) is None


@pytest.mark.parametrize("n", [24, 134, 420])
def test_power_is_that_of_counting(n: int) -> None:
    """Of the values 0.0 to 100.0 those that some k/n prints, half up or half to even."""
    printed = {rounded(Fraction(k, n), how) for k in range(n + 1) for how in (ROUND_HALF_UP, ROUND_HALF_EVEN)}
    assert power(n, 1) == pytest.approx(len(printed) / 1001)


def test_half_of_a_quarter_fits_two_batches_by_chance() -> None:
    assert 0.2 < batched_power(125, 1, 1) < 0.3


def tables(name: str) -> PrintedTable:
    with published() as path:
        (found,) = [table for table in read_tables(path) if table.name == name]
    return found


@pytest.mark.parametrize(
    ("model", "wrong", "honest"), [("Qwen2.5-3B-Instruct", 8, "GRPO 26.4"), ("Qwen2.5-7B-Instruct", 9, "GRPO 37.6")]
)
def test_the_bamboogle_column_of_sdar_is_a_mean_of_batches(model: str, wrong: int, honest: str) -> None:
    """verl-agent issues 267 and 210: 125 questions in batches of 124 and 1."""
    (finding,) = audited(tables(f"SDAR, {model}, Search-QA"), Asked({}))
    assert finding.kind is Kind.BATCHES
    assert finding.sentence.startswith(f"column Bamboogle: {wrong} values of 10")
    assert "the mean of two batches of 124 and 1" in finding.sentence
    assert honest not in finding.sentence


def test_two_rows_of_sdar_have_no_common_panel() -> None:
    (finding,) = audited(tables("SDAR, Qwen2.5-3B-Instruct, ALFWorld"), Asked({}, total=128))
    assert finding.kind is Kind.PANEL
    assert finding.sentence.startswith("42 of 45 pairs of rows cannot have been measured on the same 128 tasks")


def test_search_r1_has_nothing_to_be_ashamed_of() -> None:
    assert audited(tables("Search-R1, Qwen2.5-3B, Search-QA"), Asked({})) == []


SIZES = {"Pick": 24, "Look": 18, "Clean": 31, "Heat": 23}


@st.composite
def honest_tables(draw: st.DrawFn) -> tuple[PrintedTable, bool]:
    """Every row on one panel, rounded one way or the other, its aggregate over tasks or plain."""
    table, plain = PrintedTable(""), draw(st.booleans())
    for row in range(draw(st.integers(1, 3))):
        how = draw(st.sampled_from([ROUND_HALF_UP, ROUND_HALF_EVEN]))
        won = {name: draw(st.integers(0, n)) for name, n in SIZES.items()}
        shares = {name: Fraction(won[name], n) for name, n in SIZES.items()}
        whole = sum(shares.values()) / 4 if plain else Fraction(sum(won.values()), sum(SIZES.values()))
        for name, share in {**shares, "All": whole}.items():
            table.put(f"row {row}", name, rounded(share, how))
    return table, plain


@settings(max_examples=60, deadline=None)
@given(honest_tables())
def test_honest_tables_are_never_accused(drawn: tuple[PrintedTable, bool]) -> None:
    table, plain = drawn
    known = {name: Sizes(n, n) for name, n in SIZES.items()}
    assert audited(table, Asked(known)) == []
    if not plain:
        assert audited(table, Asked({}, total=sum(SIZES.values()))) == []
        assert audited(table, Asked({name: Sizes(n - 2, n + 2) for name, n in SIZES.items()}, total=96)) == []


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 124), st.integers(0, 1)), min_size=6, max_size=10, unique=True))
def test_means_of_batches_are_found_wherever_they_can_be(cells: list[tuple[int, int]]) -> None:
    table = PrintedTable("")
    for row, (k, j) in enumerate(cells):
        table.put(f"row {row}", "Bamboogle", rounded((Fraction(k, 124) + j) / 2, ROUND_HALF_UP))
    values = [row["Bamboogle"] for row in table.rows.values()]
    wrong = [value for value in values if not value.successes(125)]
    kinds = [finding.kind for finding in audited(table, Asked({}))]
    assert kinds == ([] if not wrong else [Kind.BATCHES] if len(wrong) >= 4 else kinds)
    assert len(kinds) == bool(wrong)


def test_seeds_make_the_grid_finer() -> None:
    table = PrintedTable("")
    table.put("ours", "Pick", "51.4")  # 37 of 72: three runs of 24
    size = {"Pick": Sizes(24, 24)}
    assert [finding.kind for finding in audited(table, Asked(size))] == [Kind.IMPOSSIBLE]
    assert audited(table, Asked(size, seeds=3)) == []


def test_an_aggregate_that_is_no_mean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(
        "method,Pick,Look,All\nours,50.0,100.0,75.0\ntheirs,50.0,100.0,66.7\nodd,50.0,100.0,90.0\nbad,n/a,10,55\n"
    )
    assert run(["audit", str(path), "--n", "Pick=24", "--n", "Look=12"]) == 0
    said = capsys.readouterr().out
    assert "note: row 'bad', column 'Pick': 'n/a' is no percentage; left out" in said
    assert "aggregate: row odd: All 90.0 is no mean of its subsets, neither over tasks nor plain" in said
    assert "column All is a plain mean of subsets in ours, and one over tasks in theirs" in said
    assert "power: Pick: 2.5% of all values can be printed with n = 24" in said
    assert run(["audit", str(path), "--n", "Pick=24", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["left_out"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--n", "Pick"], "--n Pick is not understood; say SUBSET=N"),
        (["--n", "Pick=9:3"], "--n Pick=9:3 is not understood"),
        (["--n", "NQ=²"], "--n NQ=² is not understood"),
        (["--n", "Bambogle=125"], "unknown subset 'Bambogle': did you mean 'Bamboogle'?"),
        (["--n", "NQ=9", "--n", "nq=10"], "--n NQ is given twice; leave one of them out"),
        (["nowhere.csv"], "nowhere.csv cannot be read (No such file or directory); give a CSV file"),
    ],
)
def test_bad_input(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", *words]) == 2
    assert told in capsys.readouterr().err


def test_a_file_without_percentages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "text.csv"
    path.write_text("a,b\nc,d\n")
    assert run(["audit", str(path)]) == 2
    assert "holds no percentages" in capsys.readouterr().err

"""Reports pass between processes; displays add them up."""

import io

from stepcredit.harness.progress import Lines, Report, decode, display_for, encode


def test_report_survives_the_pipe() -> None:
    report = Report("a-s0", 3, 10, "update 1/2, success 50%")
    assert decode(encode(report)) == report


def test_other_lines_are_not_reports() -> None:
    assert [decode(line) for line in ("", "Loading weights: 100%", "3", '{"cell": "a"}', "[]")] == [None] * 5


def test_plain_lines_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    with display_for({"a": 10, "b": 10}, 1, stream) as display:
        display.show(Report("a", 0, 10, "update 0/1"))
        display.show(Report("a", 10, 10, "update 1/1"))
        display.finish("a", "a: done")
    first, last = stream.getvalue().splitlines()
    assert first.startswith("a  0/10 episodes  update 0/1")
    assert last == "a: done  [2 of 3 cells]"


def test_time_left_counts_what_is_new() -> None:
    stream = io.StringIO()
    lines = Lines({"a": 1000}, 0, stream, every_s=0.0)
    lines.show(Report("a", 990, 1000, "resumed"))
    lines.show(Report("a", 995, 1000, "update"))
    resumed, later = stream.getvalue().splitlines()
    assert "unknown" in resumed
    assert later.endswith("0:00:00 left")

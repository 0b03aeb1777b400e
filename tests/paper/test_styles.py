"""What tells series apart: in colour, for colour-blind readers, in grey, and without markers."""

from itertools import combinations
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from stepcredit.paper.figures import paired_differences, styles, subset_rates, training_curve
from stepcredit.paper.results import load_study
from stepcredit.paper.styles import COLOURS, NAME_WIDTH, style_of, wrapped
from tests.paper.support import episode, simulated_episodes, tasks, write_run, write_study

# Machado, Oliveira, Fernandes (2009), severity 1.0, on linear RGB.
SEEN_BY = {
    "deuteranopes": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "protanopes": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
}
MOST = 24


def lab(colour: str, matrix: list[list[float]]) -> np.ndarray:
    """CIE Lab (D65) of a colour as it is seen through the matrix."""
    rgb = np.array(to_rgb(colour))
    linear = np.clip(np.array(matrix) @ np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4), 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    t = to_xyz @ linear / np.array([0.9505, 1.0, 1.089])
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_no_two_series_look_alike() -> None:
    shown = [style_of(index) for index in range(MOST)]
    assert len({(style.marker, style.dash) for style in shown}) == MOST, "in grey"
    assert len({(style.colour, style.dash) for style in shown}) == MOST, "without markers"


@pytest.mark.parametrize("reader", SEEN_BY)
def test_colours_that_a_reader_confuses_differ_in_marker(reader: str) -> None:
    near = 0
    for one, other in combinations([style_of(index) for index in range(MOST)], 2):
        if np.linalg.norm(lab(one.colour, SEEN_BY[reader]) - lab(other.colour, SEEN_BY[reader])) < 10:
            near += 1
            assert (one.marker, one.dash) != (other.marker, other.dash)
    assert near >= MOST - len(COLOURS)


def test_a_method_looks_the_same_in_every_figure(tmp_path: Path) -> None:
    names = ("grpo", "_mine_of_100%", "cheap_$x_$", *(f"{'very_' * place}new_method" for place in range(9)))
    study = load_study(write_study(tmp_path, methods=names, seeds=2))
    assert len(set(styles(study).values())) == len(names)
    with mpl.rc_context():
        rates, forest = subset_rates(study), paired_differences(study)
    for figure in (rates, forest):
        for axes in figure.axes:
            for line in axes.lines:
                known = {wrapped(study.label(method)): style for method, style in styles(study).items()}
                if (style := known.get(str(line.get_label()))) is not None:
                    assert (line.get_color(), line.get_marker()) == (style.colour, style.marker)
    for text in rates.legends[0].get_texts():
        assert all(len(row) <= NAME_WIDTH or " " not in row for row in text.get_text().splitlines())


def test_a_method_far_from_the_others_has_a_panel_of_its_own(tmp_path: Path) -> None:
    panel = tasks(24)
    solved = {"grpo": 12, "near": 13, "nearer": 12, "far": 0}
    for method, wins in solved.items():
        for seed in range(2):
            training = [row for row in simulated_episodes("grpo", seed, 4, 4, 24) if row["phase"] == "train"]
            rows = [
                episode(task, update=update, seed=seed, success=place < (wins if update else 12))
                for update in (0, 4)
                for place, task in enumerate(panel)
            ]
            write_run(tmp_path, method, seed, panel_size=24, episodes=[*rows, *training])
    near, far = paired_differences(load_study(tmp_path)).axes
    labels = [{str(line.get_label()) for line in axes.lines} for axes in (near, far)]
    assert "far" in labels[1] - labels[0]
    assert {"near", "nearer"} <= labels[0] - labels[1]
    assert near.get_xlim()[0] > -50 > far.get_xlim()[0]


def test_curves_of_methods_that_begin_alike_begin_at_one_point(tmp_path: Path) -> None:
    for method in ("grpo", "opd"):
        rows = simulated_episodes("grpo", 0, 12, 4, 12)
        if method == "opd":
            rows = [
                row | {"success": row["success"] and not (row["phase"] == "train" and row["update"])} for row in rows
            ]
            rows = [row | {"reward": float(row["success"])} for row in rows]
        write_run(tmp_path, method, updates=12, every=4, episodes=rows)
    study = load_study(tmp_path)
    one, other = (training_curve(study, method, 5) for method in study.methods)
    assert one[0] == other[0]
    assert one[-1] != other[-1]

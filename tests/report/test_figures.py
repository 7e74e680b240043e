"""Figures hold the values of their tables, at the places where these belong."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import FillBetweenPolyCollection

from cnet_aihw.report.figures import chips, layers, search, sweep, training
from cnet_aihw.report.figures.plot import along_network, short_names
from cnet_aihw.report.style import COLORS, figure_style, new_figure, save_figure
from cnet_aihw.report.tables import Column, Metric, Table

COLORS_OF = {"plain": COLORS[0], "noise": COLORS[1]}


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    with figure_style():
        yield


def table(rows: list[dict[str, object]]) -> Table:
    return Table("some", [Column(name) for name in rows[0]], rows)


def test_a_histogram_counts_every_chip_once() -> None:
    values = {"plain": [0.5, 0.5, 0.7], "noise": [0.9, 0.8, 0.85]}
    networks = {
        name: {"training": name, "compensation": None, "t_inference": None} for name in values
    }
    rows = [
        {**networks[name], "chip": chip, "score": accuracy}
        for name, accuracies in values.items()
        for chip, accuracy in enumerate(accuracies)
    ]
    results = table([{**networks[n], "mean": sum(v) / 3} for n, v in values.items()])
    plot = chips.histogram(table(rows), results, COLORS_OF)
    for axes, accuracies in zip(plot.figure.axes, values.values(), strict=True):
        outline = axes.patches[0].get_xy()  # up and down over each bin, from 0 back to 0
        assert sum(height for _, height in outline) == pytest.approx(2 * len(accuracies))
        mean = axes.lines[0].get_xdata()[0]
        assert mean == pytest.approx(100 * sum(accuracies) / 3)


def test_a_figure_of_a_renamed_folder_has_ids_that_a_page_can_have(tmp_path: Path) -> None:
    figure, (axes,) = new_figure(2.0)
    axes.plot([0, 1], [0, 1])
    svg = save_figure(figure, tmp_path, r"search-plain (copy) #2\1")
    ids = re.findall(r'\bid="(.*?)"', svg)
    assert len(ids) > 5
    assert all(re.fullmatch(r"[\w.+=-]+", one) for one in ids)
    assert set(re.findall(r"url\(#(.*?)\)", svg)) <= set(ids)


def test_a_histogram_counts_the_best_chip() -> None:
    row = {"training": "plain", "compensation": None, "t_inference": None}
    shares = [(n / 1000, 0.9 + n / 9999) for n in range(1, 400)]
    rounded_down = [(a, b) for a, b in shares if 100 * a + (100 * b - 100 * a) < 100 * b]
    assert len(rounded_down) > 2
    for pair in rounded_down[:3]:
        rows = [{**row, "chip": chip, "score": score} for chip, score in enumerate(pair)]
        plot = chips.histogram(table(rows), table([{**row, "mean": 0.5}]), COLORS_OF)
        outline = plot.figure.axes[0].patches[0].get_xy()
        assert sum(height for _, height in outline) == pytest.approx(4)


def test_scores_that_are_not_shares_keep_their_unit() -> None:
    rmse = Metric("RMSE", higher_is_better=False)
    row = {"training": "plain", "compensation": None, "t_inference": None}
    rows = [{**row, "chip": chip, "score": 3.0 + chip} for chip in range(3)]
    plot = chips.histogram(table(rows), table([{**row, "mean": 4.0}]), COLORS_OF, rmse)
    (axes,) = plot.figure.axes
    assert axes.lines[0].get_xdata()[0] == 4.0
    assert axes.get_xlabel() == "RMSE of a chip"
    points = [{"cost": cost, "score": score} for cost, score in ((0, 5.0), (1, 6.0), (2, 4.0))]
    assert [row["score"] for row in search.pareto_front(points, "cost", rmse)] == [5.0, 4.0]


def test_chips_that_are_all_alike_have_a_histogram() -> None:
    row = {"training": "plain", "compensation": None, "t_inference": None}
    rows = [{**row, "chip": chip, "score": 0.75} for chip in range(4)]
    plot = chips.histogram(table(rows), table([{**row, "mean": 0.75}]), COLORS_OF)
    low, high = plot.figure.axes[0].get_xlim()
    assert low < 75.0 < high


TIMES = [1.0, 3600.0, 86400.0]


def measured(t: float | None, mean: float, **more: object) -> dict[str, object]:
    row = {"training": "plain", "compensation": None, "t_inference": t, "mean": mean}
    return {**row, "std": 0.05, "q05": mean - 0.08, **more}


def test_drift_is_drawn_over_the_times_measured() -> None:
    rows = [measured(t, mean) for t, mean in zip(TIMES, (0.9, 0.8, 0.6), strict=True)]
    (axes,) = chips.over_time(table(rows), COLORS_OF).figure.axes
    (line,) = axes.lines
    assert list(line.get_xdata()) == TIMES
    assert list(line.get_ydata()) == pytest.approx([90.0, 80.0, 60.0])
    assert axes.get_xscale() == "log"
    assert chips.over_time(table(rows[:1]), COLORS_OF) is None
    assert chips.over_time(table([measured(None, 0.9)]), COLORS_OF) is None


def test_a_sweep_over_sigma_is_drawn_at_its_values_with_bands() -> None:
    # in the order of the command line, not of the values
    rows = [measured(None, mean, **{"rram.sigma": s}) for s, mean in (("0.5", 0.6), ("0.1", 0.9))]
    mean, worst = sweep.against(table(rows), "rram.sigma", [], COLORS_OF)
    (axes,) = mean.figure.axes
    assert list(axes.lines[0].get_xdata()) == [0.1, 0.5]
    assert list(axes.lines[0].get_ydata()) == pytest.approx([90.0, 60.0])
    (band,) = (c for c in axes.collections if isinstance(c, FillBetweenPolyCollection))
    corners = {(round(x, 6), round(y, 6)) for x, y in band.get_paths()[0].vertices}
    assert {(0.1, 85.0), (0.1, 95.0), (0.5, 55.0), (0.5, 65.0)} <= corners
    assert list(worst.figure.axes[0].lines[0].get_ydata()) == pytest.approx([82.0, 52.0])


def test_words_stand_side_by_side_and_others_get_lines_of_their_own() -> None:
    rows = [
        measured(None, 0.9, rram=device, seed=seed)
        for device in ("pcm", "lognormal", "pcm,x")
        for seed in ("0", "1")
    ]
    (axes,) = sweep.against(table(rows), "rram", ["seed"], COLORS_OF)[0].figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["pcm", "lognormal", "pcm,x"]
    assert [list(line.get_xdata()) for line in axes.lines] == [[0.0, 1.0, 2.0]] * 2


def test_values_over_decades_are_drawn_on_a_log_scale() -> None:
    rows = [measured(None, 0.9, beta=beta) for beta in ("1e-4", "1e-3", "1e-2")]
    (axes,) = sweep.against(table(rows), "beta", [], COLORS_OF)[0].figure.axes
    assert axes.get_xscale() == "log"


@pytest.mark.parametrize(
    ("filters", "heights"), [((0, 1, 3), (1 / 8, 2 / 8, 4 / 8)), ((0, 3, 31), (1 / 32, 1 / 8, 1))]
)
def test_numbers_of_filters_are_drawn_beside_the_largest(
    filters: tuple[int, ...], heights: tuple[float, ...]
) -> None:
    rows = [
        {"training": "plain", "layer": f"conv{n}", "ratio": f"size {n}", "candidate": True,
         "weights": n}
        for n in filters
    ]  # fmt: skip
    found = layers.placement(table(rows), COLORS_OF)
    (axes,) = found.figure.axes
    assert tuple(bar[0].get_height() for bar in axes.containers) == heights
    assert f"1 + that number / {max(8, 1 + filters[-1])})" in found.caption


def test_a_placement_has_a_bar_for_each_layer_with_compensation() -> None:
    rows = [
        {"training": "plain", "layer": layer, "ratio": ratio, "candidate": True, "weights": 1234}
        for layer, ratio in (("conv1", 0.5), ("conv2", 0.0), ("fc1", "digital"))
    ]
    (axes,) = layers.placement(table(rows), COLORS_OF).figure.axes
    heights = {bar.get_x() + bar.get_width() / 2: bar.get_height() for bar in axes.containers[0]}
    assert heights == {0.0: 0.5}
    (digital,) = axes.containers[1]
    assert (digital.get_height(), digital.get_hatch()) == (1.0, "////")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["conv1", "conv2", "fc1"]
    assert [text.get_text() for text in axes.texts] == ["+1,234", "+1,234"]


def test_the_growth_of_the_error_is_drawn_layer_by_layer() -> None:
    rows = [
        {"training": "noise", "compensation": label, "layer": layer, "mean": mean, "low": 0.0}
        | {"high": 1.0, "chips": 5, "samples": 100}
        for label, means in ((None, (0.1, 0.4)), ("xy", (0.1, 0.2)))
        for layer, mean in zip(("conv1", "fc1"), means, strict=True)
    ]
    (axes,) = layers.error_growth(table(rows), COLORS_OF).figure.axes
    before, after = axes.lines
    assert list(before.get_ydata()) == [0.1, 0.4]
    assert list(after.get_ydata()) == [0.1, 0.2]
    assert before.get_color() == after.get_color() == COLORS_OF["noise"]
    assert before.get_linestyle() != after.get_linestyle()


def test_curves_leave_out_epochs_without_a_validation_on_chips() -> None:
    rows = [
        {"training": "plain", "epoch": e, "loss": 1.0, "clean_score": 0.5, "chip_score": c}
        for e, c in enumerate([None, 0.4, None, 0.6])
    ]
    upper, lower = training.curves(table(rows), COLORS_OF).figure.axes
    assert list(upper.lines[0].get_xdata()) == [1, 2, 3, 4]
    assert list(lower.lines[0].get_xdata()) == [1, 2, 3, 4]
    assert list(lower.lines[1].get_xdata()) == [2, 4]
    assert list(lower.lines[1].get_ydata()) == [40.0, 60.0]


POINTS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12)


@given(POINTS)
def test_the_front_holds_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    rows = [{"overhead": cost, "score": accuracy} for cost, accuracy in points]
    front = [(row["overhead"], row["score"]) for row in search.pareto_front(rows, "overhead")]

    def beaten(cost: int, accuracy: int) -> bool:
        return any(c <= cost and a >= accuracy and (c, a) != (cost, accuracy) for c, a in points)

    assert front == sorted({point for point in points if not beaten(*point)})


def evaluation(number: int, reward: float, best: float, searcher: str) -> dict[str, object]:
    row = {"searcher": searcher, "seed": 0, "evaluation": number, "reward": reward}
    return {**row, "best_reward": best, "score": reward + 0.01, "overhead_weights": 0.01}


def test_each_searcher_has_a_line_of_its_best() -> None:
    rows = [
        evaluation(1, 0.5, 0.5, "a"),
        evaluation(2, 0.4, 0.5, "a"),
        evaluation(1, 0.6, 0.6, "b"),
    ]
    (axes,) = search.progress("plain", table(rows)).figure.axes
    assert [list(line.get_ydata()) for line in axes.lines] == [[50.0, 50.0], [60.0]]
    (axes,) = search.trade_off("plain", table(rows), "weights", 0.05).figure.axes
    assert sum(len(points.get_offsets()) for points in axes.collections) == 3


MANY = [f"features.{index}" for index in range(30)]


def test_a_deep_network_stays_within_the_figure(tmp_path: Path) -> None:
    rows = [
        {"training": "plain", "layer": layer, "spectral_norm": 1.0, "lambda": None}
        for layer in MANY
    ]
    plot = training.spectral_norms(table(rows), COLORS_OF)
    save_figure(plot.figure, tmp_path, "deep")
    box = plot.figure.get_tightbbox()
    width, height = plot.figure.get_size_inches()
    assert box.x0 >= -0.05 and box.y0 >= -0.05
    assert box.x1 <= width + 0.05 and box.y1 <= height + 0.05


def test_the_users_own_settings_of_matplotlib_do_not_count(tmp_path: Path) -> None:
    import matplotlib

    def drawn(name: str) -> bytes:
        with figure_style():
            figure, (axes,) = new_figure(2.0)
            axes.plot([1, 2], [3, 4])
            save_figure(figure, tmp_path, name)
        return (tmp_path / f"{name}.png").read_bytes()

    first = drawn("first")
    with matplotlib.rc_context({"lines.linewidth": 9.0, "font.size": 20.0}):
        assert drawn("second") == first


def test_each_chip_stands_at_its_scores_without_and_with_compensation() -> None:
    network = {"training": "plain", "compensation": "low rank of xy", "calibration": None}
    scores = [(0.5, 0.9), (0.3, 0.8), (0.7, 0.6)]
    rows = [
        {**network, "chip": chip, "without": a, "with": b, "clean": 0.95}
        for chip, (a, b) in enumerate(scores)
    ]
    plot = chips.before_after(table(rows), COLORS_OF)
    (axes,) = plot.figure.axes
    without, fitted, clean = axes.lines
    assert list(without.get_ydata()) == pytest.approx([30.0, 50.0, 70.0])
    assert list(fitted.get_ydata()) == pytest.approx([80.0, 90.0, 60.0])
    assert clean.get_ydata()[0] == pytest.approx(95.0)


def test_further_filters_stand_at_the_error_that_they_leave() -> None:
    errors = [0.4, 0.1, 0.05]
    rows = [
        {"training": "plain", "layer": "fc1", "filters": n, "error": error, "placed": 1}
        for n, error in enumerate(errors)
    ]
    (axes,) = layers.filters(table(rows), COLORS_OF).figure.axes
    line, dot = axes.lines
    assert list(line.get_ydata()) == pytest.approx([40.0, 10.0, 5.0])
    assert (dot.get_xdata()[0], dot.get_ydata()[0]) == (1, pytest.approx(10.0))
    assert layers.filters(Table("filters", (), []), COLORS_OF) is None


def test_intervals_of_shares_end_where_shares_end() -> None:
    rows = [
        {"mode": "single", "training": "plain", "layer": layer, "chips": 2, "mean": 0.9}
        | {"ci95_low": low, "ci95_high": high}
        for layer, low, high in (("a", -0.4, 2.2), ("b", 0.5, 1.3))
    ]
    (axes,) = layers.sensitivity(table(rows), COLORS_OF, {}).figure.axes
    segments = [segment.tolist() for lines in axes.collections for segment in lines.get_segments()]
    assert [[y for _, y in ends] for ends in segments] == [[0.0, 100.0], [50.0, 100.0]]
    skill = layers.sensitivity(table(rows), COLORS_OF, {}, Metric("R2")).figure.axes[0]
    assert skill.collections[0].get_segments()[0][:, 1].tolist() == [-0.4, 2.2]


def test_values_that_are_not_finite_stand_side_by_side() -> None:
    rows = [measured(None, 0.9, limit=limit) for limit in ("0.1", "inf")]
    (axes,) = sweep.against(table(rows), "limit", [], COLORS_OF)[0].figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.1", "inf"]
    assert list(axes.lines[0].get_xdata()) == [0.0, 1.0]


def test_long_names_of_layers_leave_room_for_the_figure(tmp_path: Path) -> None:
    ends = [f"{n}.attention.attention.{part}" for n in range(12) for part in ("query", "value")]
    rows = [
        {
            **{"training": "plain", "layer": f"vit.encoder.layer.{end}", "candidate": True},
            **{"ratio": 0.5, "weights": 10},
        }
        for end in ends
    ]
    figure = layers.placement(table(rows), COLORS_OF).figure
    save_figure(figure, tmp_path, "placement")
    (axes,) = figure.axes
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert len(set(names)) == len(names) == len(ends)
    assert names[0].startswith("0.atten") and names[-1].endswith("attention.value")
    assert axes.get_window_extent().y0 < 0.8 * figure.bbox.height  # above its names
    assert axes.get_window_extent().height > 0.2 * figure.bbox.height


def test_a_name_keeps_its_last_part_where_all_is_shared() -> None:
    assert short_names(["encoder.with.a.long.name.attention"]) == ["attention"]
    assert short_names(["encoder.attention"] * 2) == ["encoder.attention"] * 2


def test_of_hundreds_of_layers_some_are_named() -> None:
    _, (axes,) = new_figure(2.0)
    places = along_network(axes, [f"layer{n}" for n in range(400)])
    assert places["layer399"] == 399
    assert [label.get_text() for label in axes.get_xticklabels()][:2] == ["layer0", "layer5"]

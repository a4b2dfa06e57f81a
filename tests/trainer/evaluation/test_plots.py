from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from beam_pipelines.contract.labels import BUILTIN_TABLES, IGNORE, Label, LabelTable
from trainer.evaluation import plots
from trainer.evaluation.examples import Example
from trainer.evaluation.metrics import Scores, bootstrap_interval

CAMVID = BUILTIN_TABLES["camvid11"]()
CITYSCAPES = BUILTIN_TABLES["cityscapes19"]()
NAMES = [row.name for row in CAMVID.classes]
ABSENT = 3  # "road"


@pytest.fixture(scope="module")
def confusions() -> np.ndarray:
    """Of 20 images, int64[20, 11, 11], without one of the classes."""
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 20, (20, 11, 11))
    counts[:, range(11), range(11)] += rng.integers(0, 400, (20, 11))
    counts[:, ABSENT] = counts[:, :, ABSENT] = 0
    return counts


@pytest.fixture(scope="module")
def scores(confusions: np.ndarray) -> Scores:
    return Scores(confusion=confusions.sum(axis=0), labels=CAMVID)


def drawn(figure: Figure) -> np.ndarray:
    """As in the PNG file, uint8[H, W, 3]."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=50)
    return np.asarray(Image.open(content).convert("RGB"))


def texts_of(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def bars_of(axes: Axes) -> list[Rectangle]:
    return sorted((bar for bar in axes.patches if isinstance(bar, Rectangle)), key=lambda bar: bar.get_y())


def test_class_bars_have_the_scores_colors_and_order_of_the_classes(scores: Scores):
    (axes,) = plots.class_bars(scores, about="val, 20 images").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == NAMES
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # train id 0 is on top
    for place, (bar, row) in enumerate(zip(bars_of(axes), CAMVID.classes, strict=True)):
        if place == ABSENT:
            assert bar.get_hatch()
            continue
        assert bar.get_width() == pytest.approx(100 * scores.class_iou[place])
        assert to_rgb(bar.get_facecolor()) == pytest.approx(np.array(row.color) / 255)
        assert f"{100 * scores.class_iou[place]:.1f}" in texts_of(axes)
    assert "absent: neither true nor predicted" in texts_of(axes)
    assert axes.get_title("left") == f"Mean IoU {100 * scores.mean_iou:.1f} %"
    assert "val, 20 images" in texts_of(axes)
    assert not axes.lines


def test_class_bars_have_whiskers_over_the_intervals(scores: Scores, confusions: np.ndarray):
    intervals = bootstrap_interval(confusions, seed=0)
    (axes,) = plots.class_bars(scores, intervals).axes
    found = {int(np.asarray(line.get_ydata())[0]): np.asarray(line.get_xdata()) for line in axes.lines}
    assert set(found) == set(range(11)) - {ABSENT}
    for place, limits in found.items():
        np.testing.assert_allclose(limits, 100 * intervals.class_iou[place])
    low, high = 100 * intervals.mean_iou
    assert axes.get_title("left") == f"Mean IoU {100 * scores.mean_iou:.1f} %  [{low:.1f}, {high:.1f}]"


def test_category_bars(scores: Scores):
    (axes,) = plots.category_bars(scores).axes
    values = scores.category_iou
    assert [label.get_text() for label in axes.get_yticklabels()] == list(values)
    assert [bar.get_width() for bar in bars_of(axes)] == pytest.approx([100 * iou for iou in values.values()])
    first = {row.category: row.color for row in reversed(CAMVID.classes)}
    for bar, name in zip(bars_of(axes), values, strict=True):
        assert to_rgb(bar.get_facecolor()) == pytest.approx(np.array(first[name]) / 255)


def test_the_cells_of_the_confusion_matrix_are_percentages_of_their_rows(scores: Scores):
    (axes,) = plots.confusion_matrix(scores).axes
    pixels = scores.confusion.sum(axis=1, keepdims=True)
    percentages = 100 * scores.confusion / np.maximum(1, pixels)
    cells = {(int(text.get_position()[1]), int(text.get_position()[0])): text for text in axes.texts[:-1]}
    expected = {(row, column): f"{percentages[row, column]:.0f}" for row, column in np.argwhere(percentages >= 0.5)}
    assert {place: text.get_text() for place, text in cells.items()} == expected
    assert [label.get_text() for label in axes.get_yticklabels()] == NAMES
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    dark, light = cells[(0, 0)], min(cells.values(), key=lambda text: int(text.get_text()))
    assert dark.get_color() == "white"
    assert light.get_color() != "white"
    (hatched,) = [patch for patch in axes.patches if patch.get_hatch()]
    assert isinstance(hatched, Rectangle)
    assert (hatched.get_y(), hatched.get_height()) == (ABSENT - 0.5, 1)
    assert "hatched: no true pixels" in axes.texts[-1].get_text()


def make_rows() -> list[dict[str, Any]]:
    train = [
        {"step": step, "epoch": step / 10, "split": "train", "loss": 1 / step, "mean_iou": 0.1, "learning_rate": 1e-3}
        for step in range(1, 31)
    ]
    val = [
        {"step": 10 * epoch, "epoch": float(epoch), "split": "val", "loss": 2 / epoch, "mean_iou": iou}
        for epoch, iou in ((1, 0.2), (2, 0.5), (3, None))
    ]
    return [*train, *val]


def test_learning_curves_show_the_rows_and_mark_the_best():
    loss, iou, rate = plots.learning_curves(make_rows()).axes
    train, val = loss.lines
    np.testing.assert_allclose(np.asarray(train.get_xydata()), [[step / 10, 1 / step] for step in range(1, 31)])
    np.testing.assert_allclose(np.asarray(val.get_xydata()), np.array([[1, 2], [2, 1], [3, 2 / 3]]))
    _, val, best = iou.lines
    np.testing.assert_allclose(np.asarray(val.get_xydata()), [[1, 20], [2, 50]])
    np.testing.assert_allclose(np.asarray(best.get_xydata()), [[2, 50]])
    assert "best mean IoU of val 50.0 % after 2 epochs" in texts_of(loss)
    np.testing.assert_allclose(np.asarray(rate.lines[0].get_ydata()), 1e-3)
    assert all(axes.get_ylim()[0] == 0 for axes in (loss, iou, rate))


def test_learning_curves_without_an_evaluation():
    figure = plots.learning_curves([row for row in make_rows() if row["split"] == "train"])
    assert drawn(figure).std() > 0
    assert plots.learning_curves([]).axes


def make_example(caption: str = "worst", size: tuple[int, int] = (24, 48)) -> Example:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 11, size, np.uint8)
    prediction = np.where(rng.random(size) < 0.5, truth, (truth + 1) % 11).astype(np.uint8)
    truth[:6] = IGNORE
    image, region = rng.integers(0, 256, (*size, 3), np.uint8), np.zeros(size, bool)
    return Example(caption=caption, image=image, truth=truth, prediction=prediction, region=region)


def test_a_contact_sheet_shows_image_truth_prediction_and_errors():
    examples = [make_example("worst: a.png"), make_example("best: b.png", (40, 30))]
    figure = plots.contact_sheet(examples, CAMVID, "val")
    grid = np.array(figure.axes).reshape(2, 4)
    assert [axes.get_title("left") for axes in grid[0]] == [
        "image",
        "truth",
        "prediction",
        "errors: red; ignored: gray",
    ]
    assert [row[0].get_xlabel() for row in grid] == ["worst: a.png", "best: b.png"]
    for row, example in zip(grid, examples, strict=True):
        image, truth, prediction, errors = (np.asarray(axes.images[0].get_array()) for axes in row)
        ignored = example.truth == IGNORE
        wrong = (example.truth != example.prediction) & ~ignored
        np.testing.assert_array_equal(image, example.image)
        np.testing.assert_array_equal(truth[~ignored], CAMVID.palette[example.truth[~ignored]])
        assert {tuple(color) for color in truth[ignored]} == {(0, 0, 0), (110, 110, 110)}
        np.testing.assert_array_equal(prediction, CAMVID.palette[example.prediction])
        assert {tuple(color) for color in errors[wrong]} == {(226, 38, 30)}
        assert {tuple(color) for color in errors[ignored]} == {(120, 120, 120)}
        right = errors[~wrong & ~ignored]
        assert (right >= 170).all()
        assert (np.ptp(right, axis=-1) == 0).all()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [*NAMES, "ignored"]
    colors = np.array([to_rgb(patch.get_facecolor()) for patch in legend.get_patches()])
    np.testing.assert_allclose(colors, np.array([*(row.color for row in CAMVID.classes), (0, 0, 0)]) / 255)


def test_classes_without_a_color_get_different_ones():
    plain = LabelTable(name="plain", labels=tuple(replace(row, color=None) for row in CAMVID.labels))
    colors = plots.class_colors(plain)[:11]
    assert len({tuple(color) for color in colors}) == 11
    np.testing.assert_array_equal(plots.class_colors(CITYSCAPES), CITYSCAPES.palette)


def test_every_figure_is_drawn_and_leaves_matplotlib_as_it_was(tmp_path: Path, scores: Scores, confusions: np.ndarray):
    """pytest turns warnings, as of a glyph or a layout that does not fit, into errors."""
    before = dict(matplotlib.rcParams)
    figures = [
        plots.class_bars(scores, bootstrap_interval(confusions, seed=0), "about"),
        plots.category_bars(scores),
        plots.confusion_matrix(scores),
        plots.learning_curves(make_rows()),
        plots.contact_sheet([make_example("worst: $a_$b$.png, mean IoU 3 %")], CAMVID),
    ]
    assert dict(matplotlib.rcParams) == before
    for index, figure in enumerate(figures):
        path = tmp_path / f"{index}.png"
        path.write_bytes(plots.png_of(figure))
        with Image.open(path) as image:
            assert image.size == tuple(int(side * plots.DPI) for side in figure.get_size_inches())
            assert np.ptp(np.asarray(image.convert("L"))) > 200


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_figures_of_few_classes_have_room_for_their_titles(classes: int):
    rows = [Label(name=f"c{n}", source_ids=(n,), train_id=n, color=None, category="c") for n in range(classes)]
    few = Scores(confusion=np.full((classes, classes), 9), labels=LabelTable(name="few", labels=tuple(rows)))
    about = "u2netp at step 1,234,567, val of a data set with a long name"
    for figure in (
        plots.class_bars(few, None, about),
        plots.category_bars(few, about),
        plots.confusion_matrix(few, about),
    ):
        assert drawn(figure).std() > 0


def test_figures_of_nothing_are_drawn():
    nothing = Scores(confusion=np.zeros((11, 11), np.int64), labels=CAMVID)
    for figure in (plots.class_bars(nothing), plots.category_bars(nothing), plots.confusion_matrix(nothing)):
        assert drawn(figure).std() > 0

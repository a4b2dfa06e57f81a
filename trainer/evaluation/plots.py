"""Plots of an evaluation and of a run. Each function takes plain data and returns a matplotlib Figure."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, MaxNLocator

from beam_pipelines.contract.labels import IGNORE, LabelTable
from beam_pipelines.contract.pages.pictures import colors_of
from trainer.evaluation.examples import Example
from trainer.evaluation.metrics import Intervals, Scores
from trainer.evaluation.series import points_of

DPI = 120  # of the PNG files

_INK, _MUTED, _FAINT = "#1f2328", "#6a7280", "#e3e6ea"
_TRAIN, _VAL = "#9aa4b2", "#0b62a4"  # of curves
_HATCH, _HATCHING = "////", "#c8cfd8"
_WRONG = (226, 38, 30)
_IGNORED_GRAY = 120  # in the column of errors
_STYLE: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _MUTED,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.h_pad": 0.06,
    "font.size": 9.0,
    "grid.color": _FAINT,
    "text.color": _INK,
    "text.parse_math": False,  # so that $ in the name of a class or file is not markup
    "xtick.color": _MUTED,
    "xtick.labelcolor": _INK,
    "ytick.color": _MUTED,
    "ytick.labelcolor": _INK,
    "ytick.major.size": 0.0,
}
_styled = matplotlib.rc_context(_STYLE)


def png_of(figure: Figure) -> bytes:
    """The content of a PNG file."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DPI)
    return content.getvalue()


@_styled
def class_bars(scores: Scores, intervals: Intervals | None = None, about: str = "") -> Figure:
    """IoU of each class by train id, with its interval as a whisker; a class without an IoU is marked as absent."""
    classes = scores.labels.classes
    colors = class_colors(scores.labels)[: len(classes)] / 255
    limits = None if intervals is None else intervals.class_iou
    title = f"Mean IoU {_percent(scores.mean_iou)}"
    if intervals is not None:
        title += f"  [{100 * intervals.mean_iou[0]:.1f}, {100 * intervals.mean_iou[1]:.1f}]"
    return _bars([row.name for row in classes], scores.class_iou, colors, limits, title, about)


@_styled
def category_bars(scores: Scores, about: str = "") -> Figure:
    """IoU of each category, in the color of its first class."""
    palette, first = class_colors(scores.labels) / 255, {}  # type: tuple[np.ndarray, dict[str, int]]
    for row in scores.labels.classes:
        first.setdefault(row.category, row.train_id)
    colors = np.array([palette[first[name]] for name in scores.category_iou])
    values = np.array(list(scores.category_iou.values()))
    title = f"Mean category IoU {_percent(scores.mean_category_iou)}"
    return _bars(list(scores.category_iou), values, colors, None, title, about)


@_styled
def confusion_matrix(scores: Scores, about: str = "") -> Figure:
    """For each true class (row), the percentage of its pixels that was predicted as each class (column)."""
    names = [row.name for row in scores.labels.classes]
    pixels = scores.confusion.sum(axis=1, keepdims=True)
    shares = scores.confusion / np.maximum(1, pixels)
    side = max(5.5, 2.2 + 0.42 * len(names))  # room for the title
    figure = Figure((side, side), layout="constrained")
    axes = figure.add_subplot()
    picture = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1))  # the square root makes small values visible
    fills = picture.to_rgba(shares)
    for row, column in np.argwhere(shares >= 0.005):
        text = f"{100 * shares[row, column]:.0f}"
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color=_text_on(fills[row, column, :3]))
    for row in np.flatnonzero(pixels == 0):
        axes.axhspan(row - 0.5, row + 0.5, facecolor="white", edgecolor=_HATCHING, hatch=_HATCH, linewidth=0)
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.set_xticks(np.arange(0.5, len(names) - 1), minor=True)
    axes.set_yticks(np.arange(0.5, len(names) - 1), minor=True)
    axes.grid(which="minor", color="white", linewidth=1)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    note = "rows sum to 100 %; blank: below 0.5 %" + ("; hatched: no true pixels" if (pixels == 0).any() else "")
    _title(axes, "Where the pixels of each class went", _joined(about, note))
    return figure


@_styled
def learning_curves(rows: Sequence[Mapping[str, Any]], about: str = "") -> Figure:
    """Losses, mean IoU and learning rate by epoch, from the rows of a run's metrics.jsonl."""
    figure = Figure((8, 7), layout="constrained")
    loss, iou, rate = figure.subplots(3, sharex=True, height_ratios=(3, 3, 1.6))
    for axes, name, percent in ((loss, "loss", False), (iou, "mean_iou", True)):
        for split, color, marker, width in (("train", _TRAIN, None, 1.2), ("val", _VAL, "o", 2.0)):
            epochs, values = _series(rows, split, name, 100 if percent else 1)
            axes.plot(epochs, values, color=color, marker=marker, markersize=4, linewidth=width, label=split)
    epochs, values = _series(rows, "train", "learning_rate", 1)
    rate.plot(epochs, values, color=_INK, linewidth=1.5)
    rate.set_xlabel("epoch")
    rate.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    for axes, label in ((loss, "loss"), (iou, "mean IoU, %"), (rate, "learning rate")):
        axes.set_ylabel(label)
        axes.grid(axis="both")
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axes.margins(y=0.1)
        axes.set_ylim(bottom=0)
    # With deep supervision, the training loss is a sum over outputs, and the validation loss that of the first.
    loss.legend(["train: the whole objective", "val: cross entropy"], frameon=False, ncols=2, loc="upper right")
    best = _mark_best(iou, *_series(rows, "val", "mean_iou", 100))
    _title(loss, "Learning curves", _joined(about, best))
    return figure


@_styled
def contact_sheet(examples: Sequence[Example], labels: LabelTable, about: str = "") -> Figure:
    """A row for each example: image, truth (ignored pixels striped), prediction, errors (red; ignored pixels gray)."""
    width, columns = 3.1, ("image", "truth", "prediction", "errors: red; ignored: gray")
    heights = [width * each.image.shape[0] / each.image.shape[1] for each in examples]
    legend_rows = math.ceil((len(labels.classes) + 1) / 7)
    size = (4 * width + 0.4, sum(heights) + 0.3 * len(examples) + 0.8 + 0.22 * legend_rows)
    figure = Figure(size, layout="constrained")
    grid = figure.subplots(len(examples), 4, squeeze=False, height_ratios=heights)
    for row, example in zip(grid, examples, strict=True):
        for axes, pixels in zip(row, _panels(example, labels), strict=True):
            axes.imshow(pixels, interpolation="antialiased" if pixels is example.image else "nearest", aspect="equal")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
        row[0].set_xlabel(example.caption, loc="left", color=_INK)
    for axes, name in zip(grid[0], columns, strict=True):
        axes.set_title(name, loc="left", color=_MUTED, fontsize=9)
    figure.suptitle(_joined("Images by their mean IoU", about), x=0.005, ha="left", fontweight="bold")
    palette = class_colors(labels) / 255
    handles = [Patch(facecolor=tuple(palette[row.train_id]), label=row.name) for row in labels.classes]
    handles.append(Patch(facecolor="black", edgecolor="white", hatch=_HATCH, linewidth=0, label="ignored"))
    figure.legend(handles=handles, loc="outside lower left", ncols=7, frameon=False, handlelength=1.2)
    return figure


def class_colors(labels: LabelTable) -> np.ndarray:
    """uint8[256, 3]: the palette of the table; a class without a color has the one that it has on pages."""
    colors: np.ndarray = labels.palette.copy()
    colors[: labels.num_classes] = colors_of(labels)
    return colors


def _panels(example: Example, labels: LabelTable) -> tuple[np.ndarray, ...]:
    """The four images of a row, uint8[H, W, 3] each."""
    ignored = example.truth == IGNORE
    palette = class_colors(labels)
    truth = np.where(ignored[..., np.newaxis], _stripes(example.truth.shape), palette[example.truth])
    pale = 170 + 0.33 * example.image.mean(axis=2, keepdims=True)
    errors = np.repeat(pale, 3, axis=2).astype(np.uint8)
    errors[example.prediction != example.truth] = _WRONG
    errors[ignored] = _IGNORED_GRAY
    return example.image, truth, palette[example.prediction], errors


def _stripes(shape: tuple[int, ...]) -> np.ndarray:
    """Black with thin dark gray diagonal stripes, which no class looks like: uint8[H, W, 1]."""
    rows, columns = np.indices(shape)
    period = max(4, shape[0] // 24)
    return np.where((rows + columns) % period < max(1, period // 5), 110, 0).astype(np.uint8)[..., np.newaxis]


def _bars(
    names: Sequence[str], values: np.ndarray, colors: np.ndarray, limits: np.ndarray | None, title: str, about: str
) -> Figure:
    figure = Figure((8, 1.1 + 0.3 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    halo = withStroke(linewidth=3.2, foreground="white")  # for whiskers on dark bars
    for place, (value, color) in enumerate(zip(100 * values, colors, strict=True)):
        if math.isnan(value):
            axes.barh(place, 100, 0.74, facecolor="white", edgecolor=_HATCHING, hatch=_HATCH, linewidth=0)
            _label(axes, 1, place, "absent: neither true nor predicted")
            continue
        axes.barh(place, value, 0.74, color=tuple(color), edgecolor=_INK, linewidth=0.5)
        end = value
        if limits is not None:
            low, end = 100 * limits[place]
            axes.plot([low, end], [place, place], color=_INK, linewidth=1.6, path_effects=[halo], clip_on=False)
        _label(axes, end + 1, place, f"{value:.1f}")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, 108)
    axes.set_xticks(range(0, 101, 20))
    axes.grid(axis="x")
    axes.spines["bottom"].set_visible(False)
    axes.set_xlabel("IoU, %")
    _title(axes, title, about)
    return figure


def _label(axes: Axes, x: float, y: float, text: str) -> None:
    axes.text(x, y, text, va="center", fontsize=8, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8})


def _title(axes: Axes, title: str, about: str) -> None:
    axes.set_title(title, loc="left", pad=22 if about else 8, fontweight="bold", fontsize=12)
    axes.annotate(about, (0, 1), (0, 8), xycoords="axes fraction", textcoords="offset points", color=_MUTED)


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _text_on(color: np.ndarray) -> str:
    """The color of text on a color: white if its relative luminance (ITU-R BT.709) is low, else dark."""
    return "white" if color @ np.array([0.2126, 0.7152, 0.0722]) < 0.55 else _INK


def _series(rows: Sequence[Mapping[str, Any]], split: str, name: str, factor: float) -> tuple[list[float], list[float]]:
    """The epochs and values of the rows of `split` that have a value."""
    points = points_of(rows, split, name)
    return [epoch for epoch, _ in points], [factor * value for _, value in points]


def _mark_best(axes: Axes, epochs: Sequence[float], values: Sequence[float]) -> str:
    """Marks the highest value with a ring. -> a note about it; empty if there are no values."""
    if not values:
        return ""
    best = int(np.argmax(values))
    axes.plot(epochs[best], values[best], "o", markersize=9, markerfacecolor="none", markeredgecolor=_INK)
    return f"best mean IoU of val {values[best]:.1f} % after {epochs[best]:g} epochs"

"""The pictures of a report's page: photos with the truth, the prediction and the errors over them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from beam_pipelines.contract.labels import IGNORE, LabelTable
from beam_pipelines.contract.pages import count, share
from beam_pipelines.contract.pages.pictures import colors_of, mask_picture, photo, png, spotlight, words_of
from trainer.evaluation.evaluated import Evaluation
from trainer.evaluation.examples import Example, Suspicion
from trainer.evaluation.page.wording import percent
from trainer.evaluation.reported import Report

# (name, layer over the photo, its opacity); errors are a layer of their own color, which need not be mixed.
VIEWS = (("image", "", 0), ("truth", "truth", 1), ("prediction", "prediction", 1), ("errors", "errors", 1))
_RED, _GRAY = (226, 38, 30), (120, 120, 120)
_HIDDEN = bytes([0, 200, 200])  # of 255: how much is hidden by what is right, wrong and ignored
_DIMMED = 120  # of 255: of what is not suspected
_LINE = 160  # pixels of the longer side for each pixel of the line around that
_LISTED = 3  # kinds of suspected errors of an image


@dataclass(frozen=True)
class Shown:
    """A picture, its layers (name, address, words), and the lines of its caption after the name of the file."""

    filename: str
    image: str
    layers: Sequence[tuple[str, str, str]]
    lines: Sequence[str]
    stands_out: bool = False


def ranked_pictures(report: Report) -> dict[str, list[Shown]]:
    """Rank -> pictures; the addresses of errors show what is wrong."""
    examples = report.examples
    return {
        rank: [_ranked(report.evaluation, place, examples.found[place]) for place in places]
        for rank, places in examples.ranked.items()
        if places
    }


def suspect_pictures(report: Report) -> list[Shown]:
    """The images with most suspected label errors; the addresses of errors show where."""
    examples = report.examples
    return [_suspect(report.evaluation, place, examples.found[place]) for place in examples.suspects]


def _ranked(evaluation: Evaluation, place: int, example: Example) -> Shown:
    scores = evaluation.image_scores[place]
    wrong = f"{percent(1 - scores.pixel_accuracy)} of the valid pixels are wrong"
    layers = (*_maps(example, evaluation.labels), ("errors", errors_picture(example), wrong))
    lines = [f"mean IoU {percent(scores.mean_iou)}", wrong]
    return Shown(evaluation.images.filenames[place], photo(example.image), layers, lines)


def _suspect(evaluation: Evaluation, place: int, example: Example) -> Shown:
    pixels, labels = int(evaluation.images.suspects[place]), evaluation.labels
    lines = [*_told(example.suspicions, labels)]
    region = spotlight(example.region, (0, 0, 0), dimmed=_DIMMED, filled=0, line=_LINE)
    layers = (*_maps(example, labels), ("errors", region, f"suspected are {'; '.join(lines)}"))
    lines.append(f"{count(pixels)} pixels, {share(float(evaluation.suspects.values[place]))} of the valid ones")
    stands_out = place in evaluation.suspects.standing_out
    return Shown(evaluation.images.filenames[place], photo(example.image), layers, lines, stands_out)


def _told(suspicions: Sequence[Suspicion], labels: LabelTable) -> Iterator[str]:
    names = [row.name for row in labels.classes]
    for each in suspicions[:_LISTED]:
        yield f"labeled {names[each.label]}, predicted {names[each.prediction]}: {count(each.pixels)} pixels"
    if len(suspicions) > _LISTED:
        yield f"{count(sum(each.pixels for each in suspicions[_LISTED:]))} pixels of other classes"


def _maps(example: Example, labels: LabelTable) -> list[tuple[str, str, str]]:
    colors, maps = colors_of(labels), {"truth": example.truth, "prediction": example.prediction}
    return [(name, mask_picture(ids, colors), words_of(ids, labels)) for name, ids in maps.items()]


def errors_picture(example: Example) -> str:
    """The address of a PNG picture that covers what is wrong in red, ignored pixels in gray, and else nothing."""
    wrong, ignored = example.prediction != example.truth, example.truth == IGNORE
    places = np.where(ignored, 2, wrong).astype(np.uint8)
    return png(places, bytes([0, 0, 0, *_RED, *_GRAY]), transparency=_HIDDEN)

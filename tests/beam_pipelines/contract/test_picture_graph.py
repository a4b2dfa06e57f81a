"""A graph takes the pictures that the pipeline takes, with their pixels, or refuses them by name."""

from __future__ import annotations

import os
import re

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pytest
import tensorflow as tf

from beam_pipelines.contract.picture_graph import decode_picture
from beam_pipelines.contract.pictures import PictureError, decode_image
from tests.support.picture_table import CASES, HEIGHT, JPEG_LEVELS, WIDTH, png, saved, smooth

LIMIT = HEIGHT * WIDTH
named = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def outcome(data: bytes) -> str | np.ndarray:
    try:
        return decode_image(data, LIMIT)
    except PictureError as error:
        return error.reason


@pytest.fixture(scope="module")
def in_graph() -> object:
    """bytes -> pixels, or the reason."""
    function = tf.function(
        lambda file: decode_picture(file, ["image_bytes", 0], LIMIT), input_signature=[tf.TensorSpec([], tf.string)]
    )

    def call(data: bytes) -> str | np.ndarray:
        try:
            return function(tf.constant(data)).numpy()
        except tf.errors.InvalidArgumentError as error:
            found = re.search(r"\[image_bytes\] \[0\] \[(\w+): ", error.message)
            return found.group(1) if found else error.message

    return call


@named
def test_the_pipeline_reads_or_refuses(case) -> None:
    found = outcome(case.data)
    assert (found if isinstance(found, str) else "read") == case.pipeline
    if case.pixels is not None:
        np.testing.assert_array_equal(found, case.pixels)


@named
def test_a_graph_has_the_pixels_of_the_pipeline_or_refuses(case, in_graph) -> None:
    found = in_graph(case.data)
    if case.graph != "read":
        assert found == case.graph
        return
    wanted = outcome(case.data)
    assert not isinstance(found, str), found
    off = np.abs(found.astype(int) - wanted)
    assert off.max() <= (JPEG_LEVELS if case.data.startswith(b"\xff\xd8") else 0)


def test_a_graph_never_reads_what_the_pipeline_refuses() -> None:
    assert not [name for name, case in CASES.items() if case.graph == "read" != case.pipeline]
    assert {case.pipeline for case in CASES.values()} >= {"read", "transparent", "deep_color", "animated", "rotated"}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP"])
def test_the_limit_of_pixels_is_that_of_the_pipeline(kind, in_graph) -> None:
    larger = saved(np.concatenate([smooth(), smooth()[:1]]), kind)
    assert in_graph(larger) == outcome(larger) == "too_many_pixels"


@pytest.mark.parametrize("name", ["jpeg", "png rgb", "png turned", "jpeg of orientation 3", "bmp 24", "png packed xmp"])
def test_what_is_cut_off_is_an_error_of_the_picture_and_no_other(name, in_graph) -> None:
    data = CASES[name].data
    for end in (*range(0, 60, 5), *range(60, len(data) - 1, max(1, len(data) // 12))):
        assert isinstance(in_graph(data[:end]), str), end


def test_an_arithmetic_jpeg_is_refused_by_a_graph(in_graph) -> None:
    data = CASES["jpeg"].data
    assert in_graph(data.replace(b"\xff\xc0", b"\xff\xc9", 1)) == "unsupported_mode"


def test_a_picture_of_one_pixel(in_graph) -> None:
    assert in_graph(png(np.full((1, 1, 3), 7, np.uint8), 8, 2)).tolist() == [[[7, 7, 7]]]

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_pipelines.contract.labels import IGNORE
from beam_pipelines.contract.normalization import Normalization
from trainer.data.augment import AUGMENTATIONS, Operation, Target, make_augment, make_center_crop
from trainer.data.batches import example_seed
from trainer.data.color import recolor
from trainer.data.geometry import Span, cut

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
NORMALIZATION = Normalization(MEAN, STD)
OUTPUT = (12, 16)
Pair = tuple[np.ndarray, np.ndarray]


def make_pair(size: tuple[int, int] = (20, 30), seed: int = 0) -> Pair:
    """A mask of noise and its image: each id has one color, and no color is 0."""
    mask = np.random.default_rng(seed).choice(np.array([*range(19), IGNORE], np.uint8), size)
    return painted(mask), mask


def painted(mask: np.ndarray) -> np.ndarray:
    """float32[H, W, 3]: the colors of the ids."""
    return np.stack([mask + 1.0, 2.0 * mask + 3, -0.5 * mask - 1], -1).astype(np.float32)


def augment_of(
    size: tuple[int, int] = OUTPUT,
    scale: tuple[float, float] = (0.5, 2.0),
    color: float = 0.0,
    flip: float = 0.5,
    normalization: Normalization = NORMALIZATION,
) -> Operation:
    return make_augment(Target(size, normalization), {"random_scale": scale, "color": color, "flip": flip})


def eagerly(augment: Operation, pair: Pair, seed: tuple[int, int] = (1, 2)) -> Pair:
    image, mask = augment(tf.constant(pair[0]), tf.constant(pair[1]), tf.constant(seed, tf.int64))
    return image.numpy(), mask.numpy()


def assert_same(pair: Pair, other: Pair) -> None:
    """To the bit."""
    np.testing.assert_array_equal(pair[0], other[0], strict=True)
    np.testing.assert_array_equal(pair[1], other[1], strict=True)


def ramp(size: tuple[int, int]) -> Pair:
    """An image whose first two channels are its own coordinates (x, y), the third is 1."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    return np.stack([x, y, np.ones_like(x)], -1), np.zeros(size, np.uint8)


def zoom_and_flip(image: np.ndarray) -> tuple[float, bool]:
    """Of an augmented ramp: output pixels for each source pixel, from the middle, which lies within the picture."""
    row, column = image.shape[0] // 2, image.shape[1] // 2
    step = float(image[row, column + 1, 0] - image[row, column, 0])
    return 1 / abs(step), step < 0


# Where and how it runs.


@pytest.mark.parametrize("color", [0.0, 0.4])
def test_tf_data_gives_what_eager_execution_gives(color: float) -> None:
    augment, pairs = augment_of(color=color), [make_pair(seed=seed) for seed in range(6)]
    images, masks = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
    seeds = np.array([[7, position] for position in range(6)], np.int64)
    dataset = tf.data.Dataset.from_tensor_slices((images, masks, seeds)).map(augment, num_parallel_calls=2)
    assert dataset.element_spec == (tf.TensorSpec([*OUTPUT, 3], tf.float32), tf.TensorSpec(OUTPUT, tf.uint8))
    for found, pair, seed in zip(dataset.as_numpy_iterator(), pairs, seeds, strict=True):
        expected = eagerly(augment, pair, seed)
        np.testing.assert_allclose(found[0], expected[0], rtol=0, atol=2e-5)
        np.testing.assert_array_equal(found[1], expected[1])


def test_shapes_are_static_where_those_of_the_pictures_are_not() -> None:
    signature = [
        tf.TensorSpec([None, None, 3], tf.float32),
        tf.TensorSpec([None, None], tf.uint8),
        tf.TensorSpec([2], tf.int64),
    ]
    for augment in (augment_of(color=0.2), make_center_crop(OUTPUT)):
        compiled = tf.function(augment, input_signature=signature, jit_compile=False)
        outputs = compiled.get_concrete_function().outputs
        assert [(output.shape.as_list(), output.dtype) for output in outputs] == [
            ([*OUTPUT, 3], tf.float32),
            ([*OUTPUT], tf.uint8),
        ]
        for size in ((20, 30), (5, 40)):
            pair = make_pair(size)
            image, mask = compiled(*pair, tf.constant([1, 2], tf.int64))
            np.testing.assert_allclose(image, eagerly(augment, pair)[0], rtol=0, atol=2e-5)
            np.testing.assert_array_equal(mask, eagerly(augment, pair)[1])


def test_batches_are_augmented_through_map() -> None:
    augment, pairs = augment_of(), [make_pair(seed=seed) for seed in range(4)]
    images, masks = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
    seeds = tf.constant([[7, position] for position in range(4)], tf.int64)
    spec = (tf.TensorSpec([*OUTPUT, 3], tf.float32), tf.TensorSpec(OUTPUT, tf.uint8))
    moved = tf.function(lambda *batch: tf.map_fn(lambda one: augment(*one), batch, fn_output_signature=spec))
    found = moved(images, masks, seeds)
    for index, pair in enumerate(pairs):
        image, mask = eagerly(augment, pair, (7, index))
        np.testing.assert_allclose(found[0][index], image, rtol=1e-5, atol=1e-4)
        np.testing.assert_array_equal(found[1][index], mask)


def test_only_the_seed_decides() -> None:
    augment, pair = augment_of(color=0.3), make_pair()
    first = eagerly(augment, pair, (3, 4))
    tf.random.uniform([5])  # moves the program's own generator
    assert_same(eagerly(augment, pair, (3, 4)), first)
    assert_same(eagerly(augment_of(color=0.3), pair, (3, 4)), first)
    for other in ((3, 5), (4, 4), (3 + 2**33, 4)):
        assert not np.array_equal(eagerly(augment, pair, other)[1], first[1])


# One geometry for image and mask.


@settings(max_examples=40)
@given(
    source=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    output=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    least=st.floats(0.25, 2),
    ratio=st.floats(1, 4),
    seed=st.tuples(st.integers(0, 2**40), st.integers(0, 2**40)),
    color=st.sampled_from([0.0, 0.5]),
)
def test_ids_never_blend(
    source: tuple[int, int],
    output: tuple[int, int],
    least: float,
    ratio: float,
    seed: tuple[int, int],
    color: float,
) -> None:
    image, mask = make_pair(source)
    mask = np.where(mask % 2, mask, IGNORE).astype(np.uint8)  # blended odd ids would be seen as even ones
    augment = augment_of(output, (least, least * ratio), color)
    moved, ids = eagerly(augment, (image, mask), seed)
    assert set(np.unique(ids)) <= {*np.unique(mask), IGNORE}
    assert moved.shape == (*output, 3)
    assert np.isfinite(moved).all()


@settings(max_examples=40)
@given(
    source=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    output=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    seed=st.tuples(st.integers(0, 2**40), st.integers(0, 2**40)),
)
def test_without_scaling_each_pixel_is_one_of_the_source_in_image_and_mask(
    source: tuple[int, int], output: tuple[int, int], seed: tuple[int, int]
) -> None:
    image, mask = make_pair(source)
    inside = np.ones(source, np.uint8)
    moved, ids = eagerly(augment_of(output, (1.0, 1.0)), (image, mask), seed)
    _, where = eagerly(augment_of(output, (1.0, 1.0)), (image, inside), seed)
    within = where == 1
    # On each axis all of the picture is in the window, or the window is full of it.
    assert within.sum() == min(source[0], output[0]) * min(source[1], output[1])
    np.testing.assert_array_equal(moved[within], painted(ids)[within])
    assert (moved[~within] == 0).all()
    assert (ids[~within] == IGNORE).all()


@settings(max_examples=40)
@given(seed=st.tuples(st.integers(0, 2**40), st.integers(0, 2**40)))
def test_scaled_masks_take_the_pixels_nearest_to_where_the_image_is_taken(seed: tuple[int, int]) -> None:
    image, _ = ramp((20, 30))
    mask = (np.arange(20)[:, None] * 12 + np.arange(30) // 3).astype(np.uint8)  # not 255 anywhere
    moved, ids = eagerly(augment_of(OUTPUT, (0.7, 3.0)), (image, mask), seed)
    within = moved[..., 2] == 1  # nothing of the fill is blended into these
    x, y = moved[within][:, 0].astype(float), moved[within][:, 1].astype(float)
    clear = (np.abs(x % 1 - 0.5) > 1e-3) & (np.abs(y % 1 - 0.5) > 1e-3)
    nearest = mask[np.rint(y).astype(int), np.rint(x).astype(int)]
    np.testing.assert_array_equal(ids[within][clear], nearest[clear])
    assert clear.sum() > 20


@settings(max_examples=40)
@given(
    source=st.tuples(st.integers(4, 40), st.integers(4, 40)),
    scale=st.floats(0.3, 3),
    seed=st.tuples(st.integers(0, 2**40), st.integers(0, 2**40)),
)
def test_the_window_lies_in_the_picture_or_around_it(
    source: tuple[int, int], scale: float, seed: tuple[int, int]
) -> None:
    _, where = eagerly(augment_of(OUTPUT, (scale, scale)), ramp(source), seed)
    for axis in (0, 1):
        covered = int((where == 0).any(1 - axis).sum())
        expected = min(OUTPUT[axis], source[axis] * scale)
        assert abs(covered - expected) <= 1
        if source[axis] * scale >= OUTPUT[axis] + 1e-3:
            assert covered == OUTPUT[axis]


def test_without_scale_and_flip_a_picture_of_the_size_stays_as_it_is_and_a_flip_is_its_mirror() -> None:
    pair = make_pair(OUTPUT)
    augment, flips = augment_of(scale=(1.0, 1.0)), 0
    for position in range(20):
        found = eagerly(augment, pair, (0, position))
        flipped = not np.array_equal(found[1], pair[1])
        assert_same(found, (pair[0][:, ::-1], pair[1][:, ::-1]) if flipped else pair)
        flips += flipped
    assert 0 < flips < 20


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.integers(1, 9)] * 3), st.tuples(*[st.integers(1, 9)] * 3))
def test_a_mask_has_the_nearest_pixel_of_each_row_and_column(
    vertical: tuple[int, int, int], horizontal: tuple[int, int, int]
) -> None:
    spans = [Span(*map(tf.constant, lengths)) for lengths in (vertical, horizontal)]
    image, mask = make_pair((sum(vertical[:2]), sum(horizontal[:2])))
    _, ids = cut(tf.constant(image), tf.constant(mask), (spans[0], spans[1]))
    rows, columns = (  # in which the centers of the resized pixels lie
        start + np.floor((np.arange(resized) + 0.5) * taken / resized).astype(int)
        for start, taken, resized in (vertical, horizontal)
    )
    np.testing.assert_array_equal(ids, mask[np.ix_(rows, columns)], strict=True)


def test_outside_the_picture_the_image_is_the_mean_and_the_mask_is_ignored() -> None:
    image, mask = np.full((4, 6, 3), 5, np.float32), np.full((4, 6), 7, np.uint8)
    for color in (0.0, 0.4):
        moved, ids = eagerly(augment_of((10, 20), (1.0, 1.0), color), (image, mask))
        assert (ids == 7).sum() == 24
        assert set(np.unique(ids)) == {7, IGNORE}
        assert (moved[ids == IGNORE] == 0).all()
        assert (moved[ids == 7] != 0).all()


def test_a_doubled_picture_is_sampled_between_its_pixel_centers() -> None:
    moved, _ = eagerly(augment_of((40, 60), (2.0, 2.0)), ramp((20, 30)))
    _, flipped = zoom_and_flip(moved)
    x, y = ((np.arange(count) + 0.5) / 2 - 0.5 for count in (60, 40))
    inner = (slice(1, -1), slice(1, -1))  # the outermost are blended with the fill
    expected = np.stack(np.meshgrid(x[::-1] if flipped else x, y), -1)
    np.testing.assert_allclose(moved[inner][..., :2], expected[inner], rtol=0, atol=1e-5)


def test_cut_takes_the_window_and_scales_it() -> None:
    image, mask = make_pair((6, 8))
    as_it_is = Span(*map(tf.constant, (1, 4, 4))), Span(*map(tf.constant, (3, 5, 5)))
    moved, ids = cut(tf.constant(image), tf.constant(mask), as_it_is)
    np.testing.assert_array_equal(ids, mask[1:5, 3:8])
    np.testing.assert_array_equal(moved, image[1:5, 3:8])
    scaled = Span(*map(tf.constant, (1, 4, 12))), Span(*map(tf.constant, (3, 5, 2)))
    moved, ids = cut(tf.constant(image), tf.constant(mask), scaled)
    np.testing.assert_array_equal(ids, mask[1:5].repeat(3, 0)[:, [4, 6]])
    rows = np.interp(np.arange(12) / 3 - 1 / 3, range(4), np.arange(4))  # the rims stay as they are
    columns = np.array([0.75, 3.25])  # from center to center
    below, left = np.minimum(rows.astype(int), 2), columns.astype(int)
    y, x = (rows - below)[:, None, None], (columns - left)[None, :, None]
    corners = [[image[1 + below + down][:, 3 + left + right] for right in (0, 1)] for down in (0, 1)]
    upper, lower = ((1 - x) * row[0] + x * row[1] for row in corners)
    np.testing.assert_allclose(moved, (1 - y) * upper + y * lower, rtol=0, atol=1e-4)


# What chance gives.


@pytest.fixture(scope="module")
def drawn() -> list[tuple[float, bool, float, float]]:
    """Of 1000 seeds: scale, flip, and the source pixel (x, y) that is in the middle."""
    image, mask = ramp((64, 96))
    augment = augment_of((8, 8), (0.5, 2.0))
    seeds = tf.data.Dataset.range(1000).map(lambda position: tf.stack([tf.constant(11, tf.int64), position]))
    moved = seeds.map(lambda seed: augment(tf.constant(image), tf.constant(mask), seed)[0])
    return [(*zoom_and_flip(found), *found[4, 4, :2].tolist()) for found in moved.as_numpy_iterator()]


def test_half_of_the_pictures_are_flipped(drawn: list[tuple[float, bool, float, float]]) -> None:
    assert 430 < sum(flipped for _, flipped, _, _ in drawn) < 570  # 500 +- 4.4 standard deviations


def test_scales_fill_their_span_evenly_in_the_logarithm(drawn: list[tuple[float, bool, float, float]]) -> None:
    logs = np.log2([scale for scale, _, _, _ in drawn])
    assert -1.001 <= logs.min() < -0.97
    assert 0.97 < logs.max() <= 1.001
    counts, _ = np.histogram(logs, 4, (-1.001, 1.001))
    assert counts.min() > 190  # 250 each, 13.7 standard deviation


def test_places_are_spread_over_the_picture(drawn: list[tuple[float, bool, float, float]]) -> None:
    x, y = np.array(drawn)[:, 2], np.array(drawn)[:, 3]
    for places, size in ((x, 96), (y, 64)):
        counts, _ = np.histogram(places, 4, (0, size))
        assert counts.min() > 170  # the windows' own size keeps their middles from the rims
    assert abs(np.corrcoef(x, y)[0, 1]) < 0.15


@pytest.mark.parametrize(("source", "places"), [((9, 12), range(4)), ((4, 4), range(-2, 1))])
def test_every_whole_place_comes_about_equally_often(source: tuple[int, int], places: range) -> None:
    mask = np.zeros(source, np.uint8) + np.arange(source[0], dtype=np.uint8)[:, None]
    augment = tf.function(augment_of((6, 6), (1.0, 1.0)))
    tops = []
    for position in range(400):
        _, ids = augment(painted(mask), mask, tf.constant([5, position], tf.int64))
        row, column = np.argwhere(ids.numpy() != IGNORE)[0]
        tops.append(int(ids[row, column]) - int(row))
    counts = [tops.count(place) for place in places]
    assert sum(counts) == 400
    assert min(counts) > 0.6 * 400 / len(places)


@pytest.mark.parametrize(("probability", "flips"), [(0.0, 0), (1.0, 20)])
def test_a_flip_has_its_probability(probability: float, flips: int) -> None:
    pair, augment = make_pair(OUTPUT), augment_of(scale=(1.0, 1.0), flip=probability)
    found = [eagerly(augment, pair, (0, position))[1] for position in range(20)]
    assert sum(np.array_equal(mask, pair[1][:, ::-1]) for mask in found) == flips


def test_operations_draw_independently_of_each_other() -> None:
    """What one draws does not move what the others draw: each row of the table has its own numbers."""
    image, mask = ramp((40, 60))
    plain, colored, unflipped = (
        eagerly(augment, (image, mask), (5, 6))
        for augment in (augment_of(), augment_of(color=0.3), augment_of(flip=0.0))
    )
    np.testing.assert_array_equal(plain[1], colored[1])
    assert zoom_and_flip(plain[0])[0] == pytest.approx(zoom_and_flip(unflipped[0])[0])


def test_every_row_has_an_option_of_its_own() -> None:
    names = [row.option.name for row in AUGMENTATIONS]
    assert len(set(names)) == len(names)


def test_the_seed_is_that_of_the_example_and_the_epoch() -> None:
    def seed(*values: Any) -> list[int]:
        return example_seed(*values).numpy().tolist()

    first = seed(3, tf.constant(2, tf.int64), tf.constant("train/a.png"))
    assert first == seed(3, tf.constant(2, tf.int64), tf.constant("train/a.png"))
    others = [
        seed(4, tf.constant(2, tf.int64), tf.constant("train/a.png")),
        seed(3, tf.constant(1, tf.int64), tf.constant("train/a.png")),
        seed(3, tf.constant(2, tf.int64), tf.constant("train/b.png")),
    ]
    assert first not in others


# Colors.


def plain_colors(size: tuple[int, int] = OUTPUT) -> Pair:
    """Colors well within [0, 1], normalized."""
    colors = np.random.default_rng(2).uniform(0.3, 0.7, (*size, 3))
    return ((colors - MEAN) / STD).astype(np.float32), np.zeros(size, np.uint8)


def test_color_moves_the_image_and_neither_mask_nor_geometry() -> None:
    pair = plain_colors()
    plain, colored = (eagerly(augment_of(color=color), pair) for color in (0.0, 0.4))
    np.testing.assert_array_equal(plain[1], colored[1])
    assert np.abs(plain[0] - colored[0]).max() > 0.05


def test_a_trace_of_color_leaves_nearly_the_values_that_no_color_leaves() -> None:
    """So the normalization is undone and done again in the right way."""
    pair = plain_colors()
    plain, colored = (eagerly(augment_of(scale=(1.0, 1.0), color=color), pair) for color in (0.0, 1e-6))
    np.testing.assert_allclose(colored[0], plain[0], rtol=0, atol=1e-4)


def test_recolored_images_stay_colors() -> None:
    augment, pair = augment_of(OUTPUT, (1.0, 1.0), 0.9), plain_colors()
    for position in range(20):
        colors = eagerly(augment, pair, (0, position))[0] * STD + MEAN
        assert colors.min() > -1e-5
        assert colors.max() < 1 + 1e-5


def test_brightness_is_added_within_the_strength() -> None:
    image = np.zeros((*OUTPUT, 3), np.float32)  # one gray: contrast, saturation and hue leave it
    augment = tf.function(augment_of(scale=(1.0, 1.0), color=0.2, normalization=Normalization((0.5,) * 3, (0.25,) * 3)))
    added = []
    for position in range(200):
        moved, _ = augment(image, np.zeros(OUTPUT, np.uint8), tf.constant([0, position], tf.int64))
        added.append(float(moved[0, 0, 0]) * 0.25)
        np.testing.assert_allclose(moved, added[-1] / 0.25, rtol=0, atol=1e-5)
    assert -0.2001 < min(added) < -0.17
    assert 0.17 < max(added) < 0.2001


def recolored(colors: np.ndarray, *amounts: float) -> np.ndarray:
    image = ((colors - MEAN) / STD).astype(np.float32)
    changed = recolor(tf.constant(image), tf.constant(amounts, tf.float32), NORMALIZATION)
    return changed.numpy() * STD + MEAN


def test_each_amount_changes_what_it_should() -> None:
    colors = np.random.default_rng(3).uniform(0.4, 0.6, (*OUTPUT, 3))
    luma = (colors @ (0.299, 0.587, 0.114))[..., None]
    average = colors.mean((0, 1))
    assert_close = functools.partial(np.testing.assert_allclose, rtol=0, atol=2e-6)
    assert_close(recolored(colors, 0, 0, 0, 0), colors)
    assert_close(recolored(colors, 0.3, 0, 0, 0), colors + 0.3)
    assert_close(recolored(colors, 0, 0.4, 0, 0), average + 1.4 * (colors - average))
    assert_close(recolored(colors, 0, 0, -0.6, 0), luma + 0.4 * (colors - luma))
    yiq = tf.image.rgb_to_yiq(colors).numpy()
    turned = (yiq[..., 1] + 1j * yiq[..., 2]) * np.exp(2j * np.pi * 0.05)
    yiq = np.stack([yiq[..., 0], turned.real, turned.imag], -1)
    assert_close(recolored(colors, 0, 0, 0, 0.5), tf.image.yiq_to_rgb(yiq), atol=5e-4)


def test_the_amounts_act_one_after_the_other() -> None:
    colors = np.random.default_rng(3).uniform(0.45, 0.55, (*OUTPUT, 3))
    expected = colors
    for place, amount in enumerate((0.1, -0.3, 0.5, -0.7)):
        expected = recolored(expected, *(amount if place == other else 0 for other in range(4)))
    np.testing.assert_allclose(recolored(colors, 0.1, -0.3, 0.5, -0.7), expected, rtol=0, atol=2e-6)


def test_grays_stay_gray() -> None:
    grays = np.random.default_rng(3).uniform(0, 1, (*OUTPUT, 1)).repeat(3, -1)
    found = recolored(grays, 0.1, 0.3, 0.9, 2)
    np.testing.assert_allclose(found, found.mean(-1, keepdims=True).repeat(3, -1), rtol=0, atol=2e-6)


def test_a_channel_of_one_value_which_has_no_deviation_stays_finite() -> None:
    augment = augment_of(scale=(1.0, 1.0), color=0.3, normalization=Normalization(MEAN, (0.2, 0.0, 0.3)))
    assert np.isfinite(eagerly(augment, plain_colors())[0]).all()


# The middle.


@pytest.mark.parametrize("size", [OUTPUT, (1, 1), (7, 4)])
def test_a_center_crop_of_the_pictures_size_is_the_picture(size: tuple[int, int]) -> None:
    pair = make_pair(size)
    assert_same(eagerly(make_center_crop(size), pair), pair)


@settings(max_examples=40)
@given(
    source=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
)
def test_a_center_crop_is_the_middle_or_the_padded_picture(source: tuple[int, int], size: tuple[int, int]) -> None:
    image, mask = make_pair(source)
    moved, ids = eagerly(make_center_crop(size), (image, mask))
    expected = np.full(size, IGNORE, np.uint8)
    filled = np.zeros((*size, 3), np.float32)
    taken, put = [], []
    for have, want in zip(source, size, strict=True):
        over, under = max(0, have - want), max(0, want - have)
        skip, pad = (over + 1) // 2, (under + 1) // 2
        taken.append(slice(skip, skip + min(have, want)))
        put.append(slice(pad, pad + min(have, want)))
    expected[tuple(put)] = mask[tuple(taken)]
    filled[tuple(put)] = image[tuple(taken)]
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_array_equal(moved, filled)


def test_a_center_crop_takes_no_chance() -> None:
    pair = make_pair()
    assert_same(eagerly(make_center_crop(OUTPUT), pair, (1, 2)), eagerly(make_center_crop(OUTPUT), pair, (3, 4)))

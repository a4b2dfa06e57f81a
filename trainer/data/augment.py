"""Augmentation: a table of random operations on an image and its mask, each with its option.

A new augmentation is a function here and a row of `AUGMENTATIONS`, from which the command line and the configuration of
a run follow. The random numbers of an operation are a function of the seed, the epoch, the name of the example and the
row, so that they depend neither on hosts and replicas nor on other operations. TensorFlow is imported when operations
are created.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from trainer import arguments
from trainer.settings import Option

if TYPE_CHECKING:
    import tensorflow as tf

    from beam_pipelines.contract.normalization import Normalization
    from trainer.data.geometry import Pair


class Operation(Protocol):
    """A random operation."""

    def __call__(self, image: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor, focus: tf.Tensor | None = None, /) -> Pair:
        """-> (image, mask).

        Args:
          image: float32[h, w, 3], normalized; the first operation may get it as `records.Unnormalized`, of which it
            should take only the pixels that it needs. Or uint8[h, w, 3], pixels before normalization, if the operation
            only moves pixels.
          mask: uint8[h, w].
          seed: int64[2].
          focus: float32[2], a point (y, x), as fractions of height and width, that a crop contains; -1 or None for
            any place.
        """


@dataclass(frozen=True)
class Target:
    """The images to train on: their (height, width) `size` in pixels, and their normalization."""

    size: tuple[int, int]
    normalization: Normalization


@dataclass(frozen=True)
class Augmentation:
    """A row of the table: `make` turns the value of `option` into an operation, or None if it would change nothing.

    Attributes:
      only_moves: whether the operation of a value computes no colors, so that it takes pixels before normalization.
    """

    option: Option
    make: Callable[[Any, Target], Operation | None]
    only_moves: Callable[[Any], bool]


def random_scale(limits: tuple[float, float], target: Target) -> Operation:
    """Scales by a random factor within `limits`, uniform in its logarithm, and crops at most the size of the target.

    The mask gets the id of the nearest pixel, so that ids never blend.
    """
    import tensorflow as tf

    from trainer.data import geometry

    least, most = limits
    take = geometry.crop if least == most == 1 else geometry.cut

    def operation(image: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor, focus: tf.Tensor | None = None) -> Pair:
        numbers = tf.random.stateless_uniform([3], seed)
        zoom = least * (most / least) ** numbers[0]
        return take(image, mask, geometry.window_of(tf.shape(mask), target.size, zoom, numbers[1:], focus))

    return operation


def random_color(strength: float, target: Target) -> Operation | None:
    """Changes brightness, contrast and saturation by at most `strength`, and the hue by a tenth of it."""
    import tensorflow as tf

    from trainer.data.color import recolor

    def operation(image: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor, focus: tf.Tensor | None = None) -> Pair:
        del focus
        amounts = tf.random.stateless_uniform([4], seed, -strength, strength)
        return recolor(image, amounts, target.normalization), mask

    return operation if strength else None


def random_flip(probability: float, target: Target) -> Operation | None:
    """Mirrors left and right with `probability`."""
    import tensorflow as tf

    del target

    def operation(image: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor, focus: tf.Tensor | None = None) -> Pair:
        del focus
        flipped = tf.random.stateless_uniform([], seed) < probability
        mirrored: Pair = tf.cond(
            flipped, lambda: (tf.reverse(image, [1]), tf.reverse(mask, [1])), lambda: (image, mask)
        )
        return mirrored

    return operation if probability else None


# In the order of application. Padding comes last, so that no operation changes the padded pixels.
AUGMENTATIONS = (
    Augmentation(
        Option(
            "random_scale",
            type=arguments.span,
            default=(0.5, 2.0),
            metavar="LEAST,MOST",
            help="range of the random scale factor",
            aliases=("scale",),
        ),
        random_scale,
        only_moves=lambda limits: limits[0] == limits[1] == 1,
    ),
    Augmentation(
        Option(
            "color",
            type=arguments.number(0),
            default=0.2,
            help="largest random change of brightness, contrast and saturation; hue changes by a tenth of it",
        ),
        random_color,
        only_moves=lambda strength: not strength,
    ),
    Augmentation(
        Option("flip", type=arguments.number(0, most=1), default=0.5, help="probability of a horizontal flip"),
        random_flip,
        only_moves=lambda probability: True,
    ),
)


def make_augment(target: Target, values: Mapping[str, Any]) -> Operation:
    """All operations in sequence: a pair of any size -> a pair of the target's size.

    Args:
      values: option of `AUGMENTATIONS` -> its value.
    """
    import tensorflow as tf

    from trainer.data import geometry

    operations = [row.make(values[row.option.name], target) for row in AUGMENTATIONS]
    fold_in = tf.random.experimental.stateless_fold_in

    def augment(image: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor, focus: tf.Tensor | None = None) -> Pair:
        for number, operation in enumerate(operations, start=1):
            if operation is not None:
                image, mask = operation(image, mask, fold_in(seed, number), focus)
        return geometry.pad(image, mask, target.size, tf.random.stateless_uniform([2], fold_in(seed, 0)))

    return augment


def only_moves(values: Mapping[str, Any]) -> bool:
    """Whether augmentation with these values computes no colors. It then takes uint8 images, too, if none is padded."""
    return all(row.only_moves(values[row.option.name]) for row in AUGMENTATIONS)


def make_center_crop(size: tuple[int, int]) -> Operation:
    """Crops an image to (height, width) `size`, at its center or around the focus, and pads a smaller image.

    Nothing is random.
    """
    import tensorflow as tf

    from trainer.data import geometry

    def crop(image: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor, focus: tf.Tensor | None = None) -> Pair:
        del seed
        middle = tf.constant([0.5, 0.5])
        window = geometry.window_of(tf.shape(mask), size, tf.constant(1.0), middle, focus)
        return geometry.pad(*geometry.crop(image, mask, window), size, middle)

    return crop

"""Sliding windows: images of any size, of which the model sees a window at a time.

The windows lie on a grid. The first begins at one edge of the image and the last ends at the other; between them, their
starts are as even as whole pixels allow, so that none of them overlap less than was asked for. Where windows overlap,
their probabilities are averaged, not their logits, as in `scale_process` of hszhao/semseg (tool/test.py, the code of
PSPNet); mmsegmentation's `slide_inference` averages logits. An image that is smaller than a window in one direction has
one window in this direction, which ends with the image, as in mmsegmentation. If the model takes images of one size
only, it is padded at its bottom and right with 0, the mean of normalized images, as semseg pads with the mean.

Memory: the model sees one window of each image of a batch at a time, however large the images are. Beside it there are
the sums of probabilities, float32[B, H, W, C], once or, while they are copied, twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainer.inference.views import MOST_WINDOWS, Views, ViewsError, shown, windows_along
from trainer.models import as_list


def own_size(model: keras.Model) -> tuple[int | None, int | None]:
    """(height, width) of the images that the model was built for; None is any."""
    height, width = model.inputs[0].shape[1:3]
    return height, width


def check_window(model: keras.Model, views: Views) -> None:
    """Raises ViewsError if there are windows of a size that the model does not take."""
    own = own_size(model)
    if views.window is None or all(side in (None, length) for side, length in zip(own, views.window, strict=True)):
        return
    fitting = [side or length for side, length in zip(own, views.window, strict=True)]
    raise ViewsError(
        f"--window={shown(views.window)}: the model was built for images of {shown(side or 'any' for side in own)}: "
        f"set --window={shown(fitting)}"
    )


def predict_whole(model: keras.Model, images: tf.Tensor) -> tf.Tensor:
    """Normalized images float32[B, H, W, 3] -> logits float32[B, H, W, C] of the first output."""
    return tf.cast(as_list(model(images, training=False))[0], tf.float32)


def predict_windows(model: keras.Model, images: tf.Tensor, views: Views) -> tf.Tensor:
    """Normalized images float32[B, H, W, 3] -> logits float32[B, H, W, C], seen by windows; see above.

    With several windows they are the logarithms of the mean probabilities. With one, they are those of the model,
    to the bit.

    Raises:
      tf.errors.InvalidArgumentError: there are more than MOST_WINDOWS. It is not raised for sizes that are known when a
        graph is traced: see `Views.check_windows`.
    """
    assert views.window is not None
    height, width = sides_of(images)
    own = own_size(model)
    padded = images if own == (None, None) else _padded(images, own)
    down, across = map(Axis.of, sides_of(padded), views.window, (views.overlap,) * 2, own)
    single: Any = (down.count == 1) & (across.count == 1)
    if tf.is_tensor(single):
        _assert_count(down, across, views)
    logits = predict_whole(model, padded) if single is True else _slide(model, padded, down, across, single)
    return logits if padded is images else logits[:, :height, :width]


@dataclass(frozen=True)
class Axis:
    """The windows along one side of an image; each value is an int, or an int32 scalar.

    Attributes:
      side: of the image, in pixels.
      length: of a window, in pixels.
      count: of windows.
    """

    side: Any
    length: Any
    count: Any

    @classmethod
    def of(cls, side: Any, length: int, overlap: float, own: int | None) -> Axis:
        """`own`: the only length that the model takes; no side is shorter."""
        return cls(side, own or side - _larger(0, side - length), windows_along(side, length, overlap, _larger))

    def start(self, number: Any) -> Any:
        """The first pixel of a window; 0 <= number < count."""
        gaps = _larger(1, self.count - 1)
        step, rest = (self.side - self.length) // gaps, (self.side - self.length) % gaps
        return number * step + number * rest // gaps  # not number * (side - length), which int32 may be too small for

    def cover(self) -> tf.Tensor:
        """float32[side]: in how many windows each pixel is."""
        starts = self.start(tf.range(self.count))
        ends = tf.concat([starts, starts + self.length], axis=0)
        signs = tf.concat([tf.ones_like(starts, tf.float32), -tf.ones_like(starts, tf.float32)], axis=0)
        return tf.cumsum(tf.tensor_scatter_nd_add(tf.zeros([self.side + 1]), ends[:, tf.newaxis], signs))[:-1]


def _slide(model: keras.Model, images: tf.Tensor, down: Axis, across: Axis, single: Any) -> tf.Tensor:
    """The logits; `single` tells whether there is one window only, as a bool, or as a tensor."""
    batch = images.shape[0] or tf.shape(images)[0]
    pixels, classes = down.side * across.side, model.outputs[0].shape[-1]

    def add_window(number: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        top, left = down.start(number // across.count), across.start(number % across.count)
        seen = tf.slice(images, [0, top, left, 0], [batch, down.length, across.length, images.shape[3]])
        logits = predict_whole(model, seen)
        rows, columns = top + tf.range(down.length), left + tf.range(across.length)
        places = tf.range(batch)[:, None, None] * pixels + rows[:, None] * across.side + columns
        values = _either(single, lambda: logits, lambda: tf.nn.softmax(logits))
        return number + 1, tf.tensor_scatter_nd_add(total, places[..., None], values)

    _, total = tf.while_loop(
        lambda number, _: number < down.count * across.count,
        add_window,
        (tf.constant(0), tf.zeros([batch * pixels, classes])),
        parallel_iterations=1,  # more would let the model see several windows at a time
    )
    total = tf.reshape(total, [batch, down.side, across.side, classes])

    def logarithms() -> tf.Tensor:
        cover = down.cover()[:, None] * across.cover()
        return tf.math.log(tf.maximum(total / cover[..., None], np.finfo(np.float32).tiny))

    return _either(single, lambda: total, logarithms)


def sides_of(images: tf.Tensor) -> tuple[Any, Any]:
    """Height and width of a batch: ints where they are known, else int32 scalars."""
    height, width = (images.shape[axis] or tf.shape(images)[axis] for axis in (1, 2))
    return height, width


def _padded(images: tf.Tensor, least: tuple[int | None, int | None]) -> tf.Tensor:
    """With zeros at the bottom and at the right, up to the `least` height and width."""
    added = [_larger(0, each - side) if each else 0 for each, side in zip(least, sides_of(images), strict=True)]
    return tf.pad(images, [[0, 0], [0, added[0]], [0, added[1]], [0, 0]])


def _assert_count(down: Axis, across: Axis, views: Views) -> None:
    count = tf.cast(down.count, tf.int64) * tf.cast(across.count, tf.int64)
    tf.debugging.assert_less_equal(
        count,
        tf.constant(MOST_WINDOWS, tf.int64),
        f"the image has more than {MOST_WINDOWS:,} windows of {shown(views.window)} with overlap {views.overlap:g}: "
        "use a smaller image, a larger window or a smaller overlap",
    )


def _larger(one: Any, other: Any) -> Any:
    is_known = isinstance(one, int) and isinstance(other, int)
    return max(one, other) if is_known else tf.maximum(one, other)


def _either(condition: Any, yes: Callable[[], tf.Tensor], no: Callable[[], tf.Tensor]) -> tf.Tensor:
    if isinstance(condition, bool):
        return yes() if condition else no()
    return tf.cond(condition, yes, no)

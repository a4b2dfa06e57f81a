"""Terms of the loss besides cross entropy: a table of functions, each with an option for its weight.

A new term is a function here and a row of `TERMS`. TensorFlow is imported when a term is computed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer import arguments
from trainer.settings import Option

if TYPE_CHECKING:
    import tensorflow as tf

# (probabilities and one-hot labels float32[B, P, C], valid bool[B, P]) -> the loss of each image, float32[B]
TermFunction = Callable[["tf.Tensor", "tf.Tensor", "tf.Tensor"], "tf.Tensor"]


@dataclass(frozen=True)
class Term:
    """A row of the table: the term that `--name=WEIGHT` adds to the loss."""

    name: str
    function: TermFunction
    help: str

    @property
    def option(self) -> Option:
        return Option(self.name, type=arguments.number(0), default=0.0, metavar="WEIGHT", help=self.help)


def lovasz_softmax(probabilities: tf.Tensor, members: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    """Lovász-softmax (Berman et al. 2018, equations 9 and 12) of each image, over the classes present in its labels.

    Algorithm 1 takes differences of the Jaccard index along the sorted errors, which is not accurate in float32 for
    millions of pixels. This is the closed form, where I and U are the intersection and union up to a pixel: a pixel of
    the class adds 1 / U, any other pixel I / (U * (U - 1)).

    Args:
      probabilities: float32 [B, P, C].
      members: one-hot labels, float32 [B, P, C]; all 0 for ignored pixels.
      valid: bool [B, P].

    Returns:
      float32 [B], from 0 to 1; 0 for an image without labels.
    """
    import tensorflow as tf

    mask = tf.cast(valid, tf.float32)[..., tf.newaxis]
    errors = tf.transpose(tf.abs(members - probabilities) * mask, [0, 2, 1])
    order = tf.argsort(tf.stop_gradient(errors), axis=2, direction="DESCENDING")
    inside = tf.gather(tf.transpose(members, [0, 2, 1]), order, batch_dims=2)
    outside = 1.0 - inside  # includes ignored pixels, which come last with an error of 0 and add 0
    size = tf.reduce_sum(inside, axis=2, keepdims=True)
    intersection = size - tf.cumsum(inside, axis=2)
    union = size + tf.cumsum(outside, axis=2)
    rises = tf.math.divide_no_nan(inside, union)
    rises += outside * tf.math.divide_no_nan(intersection, union * (union - 1.0))
    losses = tf.reduce_sum(tf.gather(errors, order, batch_dims=2) * rises, axis=2)
    return _mean_over_present(losses, members)


def soft_dice(probabilities: tf.Tensor, members: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    """1 - 2 sum(p g) / (sum(p) + sum(g)) of each image (Sudre et al. 2017), averaged over the classes in its labels.

    A class that is present has sum(g) >= 1, so no smoothing is needed. Arguments and result: see `lovasz_softmax`.
    """
    import tensorflow as tf

    shown = probabilities * tf.cast(valid, tf.float32)[..., tf.newaxis]
    overlap = tf.reduce_sum(shown * members, axis=1)
    return _mean_over_present(
        1.0 - tf.math.divide_no_nan(2.0 * overlap, tf.reduce_sum(shown, axis=1) + tf.reduce_sum(members, axis=1)),
        members,
    )


def _mean_over_present(losses: tf.Tensor, members: tf.Tensor) -> tf.Tensor:
    """Mean of losses [B, C] over the classes with pixels in members [B, P, C]. -> [B]."""
    import tensorflow as tf

    present = tf.cast(tf.reduce_any(members > 0, axis=1), tf.float32)
    return tf.math.divide_no_nan(tf.reduce_sum(losses * present, axis=1), tf.reduce_sum(present, axis=1))


TERMS = (
    Term("lovasz", lovasz_softmax, "weight of the Lovasz-softmax term"),
    Term("dice", soft_dice, "weight of the soft Dice term"),
)

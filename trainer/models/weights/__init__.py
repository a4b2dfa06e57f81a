"""Published weights: which networks `trainer.convert` makes model files of, and what they were trained with.

Another network is a row of `PUBLISHED`, and a table of names (`Names`) in a module of this package. Other weights of
the same network need nothing. What loads weights is imported when it is used, so that command lines do not wait.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from trainer.models.weights.transfer import Names, Source

INITIAL = "initial_model"  # a value of backbone_weights: a model of published weights gives its own
Three = tuple[float, float, float]


class Outputs(NamedTuple):
    """What the outputs of a network with some number of classes are.

    Attributes:
      labels: a label table of `beam_pipelines.contract.labels`, or "foreground": background and foreground.
      size: (height, width) in pixels of the images that it was trained on; None if they had several.
    """

    labels: str
    size: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Published:
    """A row of the table.

    Attributes:
      model, options: of `trainer.models.build`.
      marker: a tensor that only files of this network have, and its shape.
      names: `module:function`, relative to this package. (the output stride, if the model has one) -> the names of all
        tensors.
      arguments: more arguments of that function.
      logits: the tensor whose shape at `axis` is the number of classes.
      outputs: number of classes -> what is published with as many.
      mean, std: of pixel / 255, with which images are normalized.
    """

    model: str
    options: Mapping[str, Any] = field(default_factory=dict)
    marker: tuple[str, tuple[int, ...]]
    names: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    logits: str
    axis: int
    outputs: Mapping[int, Outputs]
    mean: Three
    std: Three

    def find_names(self, **options: Any) -> Names:
        """The names of all tensors of a file, for a model of these options."""
        module, _, function = self.names.partition(":")
        made: Names = getattr(importlib.import_module(f"{__name__}.{module}"), function)(**options, **self.arguments)
        return made


_HALF = (0.5, 0.5, 0.5)  # pixel * 2 / 255 - 1: _preprocess_zero_mean_unit_range in feature_extractor.py


def _deeplab(variant: str) -> Published:
    """research/deeplab of tensorflow/models: train_crop_size and label tables in datasets/data_generator.py."""
    return Published(
        model="deeplabv3plus",
        options={"backbone": variant.replace("_", "")},
        marker=(f"{variant}/entry_flow/conv1_1/weights", (3, 3, 3, 32)),
        names="slim_names:whole",
        arguments={"scope": variant},
        logits="logits/semantic/weights",
        axis=-1,
        outputs={19: Outputs("cityscapes19", (1024, 2048)), 21: Outputs("voc21")},
        mean=_HALF,
        std=_HALF,
    )


def _u2net(name: str, middle: int) -> Published:
    """xuebinqin/U-2-Net: RescaleT(320) and ToTensorLab in u2net_test.py; the middle filters of stage 1."""
    return Published(
        model=name,
        marker=("stage1.rebnconv1.conv_s1.weight", (middle, 64, 3, 3)),
        names="u2net_names:converted",
        arguments={"network": name},
        logits="outconv.weight",
        axis=0,
        outputs={1: Outputs("foreground", (320, 320))},
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )


PUBLISHED = (
    *(_deeplab(variant) for variant in ("xception_65", "xception_41", "xception_71")),
    _u2net("u2net", 32),
    _u2net("u2netp", 16),
)


def recognize(source: Source) -> Published | None:
    """The row of the network whose tensors a file has."""
    return next((row for row in PUBLISHED if source.shapes.get(row.marker[0]) == row.marker[1]), None)

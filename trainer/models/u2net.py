"""U2-Net and U2-NetP for any number of classes: Qin et al. 2020, arXiv 2005.09007.

Numbers are from table 1 of the paper and from the official model/u2net.py of xuebinqin/U-2-Net (classes U2NET, U2NETP).
Each of the seven maps has one channel with a sigmoid there, and `num_classes` channels of logits here.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import keras
from keras import layers

from beam_pipelines.contract.normalization import Normalization
from trainer.models.errors import ModelError
from trainer.models.layers import (
    Convolutions,
    CropLike,
    DivideByMaximum,
    PadToMultiple,
    ResizeLike,
    apply_block,
    head_dtype,
    leaves,
)
from trainer.models.weights import INITIAL, u2net_names
from trainer.models.weights.pytorch_file import open_state
from trainer.models.weights.transfer import Source, load

STRIDE = 32  # five halvings in the network, and five in RSU-7, each of an even size

DILATED = 0  # stands for the height of RSU-4F, which dilates instead of pooling

# As BatchNorm2d of PyTorch in the official code: eps=1e-5 and momentum=0.1, which is 0.9 in Keras.
EPSILON, MOMENTUM = 1e-5, 0.9

# Of pixels between 0 and the largest of their image: ToTensorLab in data_loader.py.
TRAINED_WITH = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Stage(NamedTuple):
    """RSU-`height`(C_in, middle, out): L (DILATED for 4F), M and O in table 1."""

    height: int
    middle: int
    out: int


class Network(NamedTuple):
    """Stages 1..6 of the encoder and 5..1 of the decoder."""

    encoder: tuple[Stage, ...]
    decoder: tuple[Stage, ...]


U2NET = Network(
    encoder=(
        Stage(7, 32, 64),
        Stage(6, 32, 128),
        Stage(5, 64, 256),
        Stage(4, 128, 512),
        Stage(DILATED, 256, 512),
        Stage(DILATED, 256, 512),
    ),
    decoder=(Stage(DILATED, 256, 512), Stage(4, 128, 256), Stage(5, 64, 128), Stage(6, 32, 64), Stage(7, 16, 64)),
)
U2NETP = Network(
    encoder=tuple(Stage(height, 16, 64) for height in (7, 6, 5, 4, DILATED, DILATED)),
    decoder=tuple(Stage(height, 16, 64) for height in (DILATED, 4, 5, 6, 7)),
)


def u2net(
    num_classes: int,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    *,
    backbone_weights: str = "none",
    batch_norm_momentum: float = MOMENTUM,
    sync_batch_norm: bool = False,
    width: float = 1.0,
    normalization: Normalization | None = None,
) -> keras.Model:
    """Normalized images float32[B, H, W, 3] -> seven logits float32[B, H, W, num_classes], for any H and W.

    The first output is fused from the other six: the side outputs of the decoder's stages 1..5 and of the encoder's
    stage 6, at the size of the images (section 3.2 and figure 5).

    Args:
      backbone_weights: "none", or a state dict of the official code. All but the maps start from it; with one class the
        maps, too. Layers before the network then make what it was trained with of the images: pixels divided by the
        largest of their image, with ImageNet's mean and std. That needs `normalization`. "initial_model" is the same
        network with random weights, for those of another model.
      batch_norm_momentum: of the moving averages.
      sync_batch_norm: whether batch statistics are those of all replicas.
      width: factor of the number of filters of each layer.
      normalization: of the images.

    Raises:
      ModelError: the options do not fit together, or the file has other weights.
      WeightsError: there is no such file.
    """
    convolutions = Convolutions(
        width=width, epsilon=EPSILON, momentum=batch_norm_momentum, synchronized=sync_batch_norm
    )
    return _build("u2net", U2NET, convolutions, num_classes, input_shape, backbone_weights, normalization)


def u2netp(
    num_classes: int,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    *,
    backbone_weights: str = "none",
    batch_norm_momentum: float = MOMENTUM,
    sync_batch_norm: bool = False,
    width: float = 1.0,
    normalization: Normalization | None = None,
) -> keras.Model:
    """The small version, with 1/39 of the parameters; see `u2net`."""
    convolutions = Convolutions(
        width=width, epsilon=EPSILON, momentum=batch_norm_momentum, synchronized=sync_batch_norm
    )
    return _build("u2netp", U2NETP, convolutions, num_classes, input_shape, backbone_weights, normalization)


def _build(
    name: str,
    network: Network,
    convolutions: Convolutions,
    num_classes: int,
    input_shape: tuple[int | None, int | None, int],
    backbone_weights: str,
    normalization: Normalization | None,
) -> keras.Model:
    source = None
    images = x = keras.Input(input_shape, name="images")
    if backbone_weights != "none":
        x = _as_trained(images, _checked(name, backbone_weights, convolutions.width, normalization))
        source = None if backbone_weights == INITIAL else open_state(backbone_weights)
    padded = PadToMultiple(STRIDE, name="pad")(x)
    encoded = _encode(padded, network.encoder, convolutions)
    decoded = _decode(encoded, network.decoder, convolutions)
    logits = apply_block("logits", partial(_logits, num_classes=num_classes), padded, *decoded)
    crops = ["logits_fused_crop", *(f"logits_side{number}_crop" for number in range(1, 7))]
    outputs = [CropLike(dtype="float32", name=crop)(each, images) for crop, each in zip(crops, logits, strict=True)]
    model = keras.Model(images, outputs, name=name)
    if source is not None:
        _load(source, name, model, has_maps=num_classes == 1)
    return model


def _load(source: Source, name: str, model: keras.Model, *, has_maps: bool) -> None:
    """Copies the weights of a state dict, those of the maps only if they are of as many classes."""
    if has_maps:
        load(source, u2net_names.whole(name), model)
    else:
        maps = {layer.name for layer in leaves(model.get_layer("logits"))}
        part = [layer for layer in leaves(model) if layer.name not in maps]
        load(source, u2net_names.backbone(name), model, part)


def _checked(name: str, backbone_weights: str, width: float, normalization: Normalization | None) -> Normalization:
    """Raises ModelError unless the network can start from weights."""
    if backbone_weights == "imagenet":
        raise ModelError(f"no ImageNet weights of {name} are known: set --backbone_weights to a file, as {name}.pth")
    if width != 1:
        raise ModelError(
            f"backbone_weights={backbone_weights} needs {name} of width 1, not {width:g}: leave out --width"
        )
    if normalization is None:
        raise ModelError(f"backbone_weights={backbone_weights} needs the `normalization` of the images")
    return normalization


def _as_trained(images: Any, normalization: Normalization) -> Any:
    """Normalized images -> what published weights were trained with."""
    pixels = layers.Rescaling(*normalization.rescaling(0, 1), dtype="float32", name="rescale")(images)
    scale, offset = Normalization((0.0,) * 3, (1.0,) * 3).change_to(TRAINED_WITH)
    divided = DivideByMaximum(name="divide_by_maximum")(pixels)
    return layers.Rescaling(scale.tolist(), offset.tolist(), dtype="float32", name="normalize")(divided)


def _encode(x: Any, stages: tuple[Stage, ...], convolutions: Convolutions) -> list[Any]:
    """-> the outputs of stages 1..6, each half the size of the previous one."""
    outputs: list[Any] = []
    for number, stage in enumerate(stages, start=1):
        name = f"stage{number}"
        if outputs:
            x = layers.MaxPooling2D(2, name=f"{name}_pool")(x)
        x = apply_block(name, partial(_rsu, stage=stage, convolutions=convolutions, name=name), x)
        outputs.append(x)
    return outputs


def _decode(encoded: list[Any], stages: tuple[Stage, ...], convolutions: Convolutions) -> list[Any]:
    """-> the outputs of the decoder's stages 1..5 and of the encoder's stage 6."""
    outputs = [encoded[-1]]
    for number, stage in zip(range(5, 0, -1), stages, strict=True):
        name = f"stage{number}d"
        merge = partial(_merge, stage=stage, convolutions=convolutions, name=name)
        outputs.insert(0, apply_block(name, merge, outputs[0], encoded[number - 1]))
    return outputs


def _merge(below: Any, skip: Any, *, stage: Stage, convolutions: Convolutions, name: str) -> Any:
    """A stage of the decoder, of the one below it and the stage of the encoder at its size."""
    return _rsu(_concat_resized(below, skip, name), stage, convolutions, name=name)


def _logits(padded: Any, *decoded: Any, num_classes: int) -> list[Any]:
    """The fused logits and the six side logits, at the size of the padded image; float32 under any dtype policy."""
    sides = []
    for number, x in enumerate(decoded, start=1):
        name = f"logits_side{number}"
        x = layers.Conv2D(num_classes, 3, padding="same", dtype=head_dtype(), name=name)(x)
        if number > 1:
            x = ResizeLike(align_corners=False, dtype="float32", name=f"{name}_resize")(x, padded)
        sides.append(x)
    together = layers.Concatenate(dtype="float32", name="logits_concat")(sides)
    return [layers.Conv2D(num_classes, 1, dtype=head_dtype(), name="logits_fused")(together), *sides]


def _rsu(x: Any, stage: Stage, convolutions: Convolutions, *, name: str) -> Any:
    """A residual U-block: section 3.1 and figure 2; RSU-4F in section 3.2."""
    residual = convolutions.conv(x, stage.out, 3, bias=True, name=f"{name}_in")
    u_block = _dilated_u if stage.height == DILATED else _pooled_u
    return layers.Add(name=f"{name}_add")([u_block(residual, stage, convolutions, name), residual])


def _pooled_u(x: Any, stage: Stage, convolutions: Convolutions, name: str) -> Any:
    """RSU-7, 6, 5 and 4: `height` - 2 halvings, a dilated convolution, and as many upsamplings."""
    skips = []
    for level in range(1, stage.height):
        if level > 1:
            x = layers.MaxPooling2D(2, name=f"{name}_pool{level}")(x)
        x = convolutions.conv(x, stage.middle, 3, bias=True, name=f"{name}_conv{level}")
        skips.append(x)
    x = convolutions.conv(x, stage.middle, 3, rate=2, bias=True, name=f"{name}_conv{stage.height}")
    for level in range(stage.height - 1, 0, -1):
        up = f"{name}_conv{level}d"
        x = _concat_resized(x, skips.pop(), up, resize=level < stage.height - 1)
        x = convolutions.conv(x, stage.out if level == 1 else stage.middle, 3, bias=True, name=up)
    return x


def _dilated_u(x: Any, stage: Stage, convolutions: Convolutions, name: str) -> Any:
    """RSU-4F: dilation rates 1, 2, 4 and 8 in the encoder, 4, 2 and 1 in the decoder."""
    skips = []
    for level, rate in enumerate((1, 2, 4, 8), start=1):
        x = convolutions.conv(x, stage.middle, 3, rate=rate, bias=True, name=f"{name}_conv{level}")
        skips.append(x)
    x = skips.pop()
    for level, rate in ((3, 4), (2, 2), (1, 1)):
        up = f"{name}_conv{level}d"
        x = _concat_resized(x, skips.pop(), up, resize=False)
        x = convolutions.conv(x, stage.out if level == 1 else stage.middle, 3, rate=rate, bias=True, name=up)
    return x


def _concat_resized(x: Any, skip: Any, name: str, *, resize: bool = True) -> Any:
    if resize:
        x = ResizeLike(align_corners=False, name=f"{name}_resize")(x, skip)
    return layers.Concatenate(name=f"{name}_concat")([x, skip])

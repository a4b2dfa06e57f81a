"""Names of variables in checkpoints of research/deeplab (tensorflow/models), which tf-slim makes.

core/xception.py has those of the backbone, model.py those of ASPP, decoder and logits.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from trainer.models.deeplab import ATROUS_RATES
from trainer.models.weights.transfer import Names, Rule

SLIM = {
    "conv": ("/weights",),
    "biased": ("/weights", "/biases"),
    "depthwise": ("/depthwise_weights",),
    "norm": tuple(f"/BatchNorm/{name}" for name in ("gamma", "beta", "moving_mean", "moving_variance")),
}

# What optimizers and moving averages keep of a variable, as VARIABLE/SLOT.
SLOTS = ("Momentum", "RMSProp", "RMSProp_1", "Adam", "Adam_1", "ExponentialMovingAverage")
STEP = "global_step"
_COUNTERS = {STEP, "beta1_power", "beta2_power"}

ZOO = "g3doc/model_zoo.md of research/deeplab in tensorflow/models names the files"


def backbone(scope: str) -> Names:
    """The backbone alone, such as `scope` xception_65, of a whole model or of a classifier of ImageNet."""

    def dropped(name: str, used: frozenset[str]) -> str | None:
        if not name.startswith(f"{scope}/"):
            return _slot_or_counter(name, used) or "outside the backbone"
        if re.match(rf"{scope}/logits/(weights|biases)\b", name):
            return "classes of ImageNet"
        return _slot_or_counter(name, used)

    return Names(
        network=f"the backbone {scope}",
        rules=_backbone(scope),
        dropped=dropped,
        cure=f"set the path of a checkpoint with {scope}, as {ZOO}",
    )


def whole(scope: str, output_stride: int) -> Names:
    """DeepLabV3+: the backbone, ASPP, decoder and logits."""
    return Names(
        network=f"DeepLabV3+ with {scope}",
        rules=(*_backbone(scope), *_head(ATROUS_RATES[output_stride])),
        dropped=_slot_or_counter,
        cure=f"set the path of a whole model with ASPP and decoder, as {ZOO}; with a checkpoint of a backbone, "
        "trainer.task starts by --backbone_weights",
    )


def _backbone(scope: str) -> tuple[Rule, ...]:
    module = r"unit_\g<unit>/xception_module"
    part = r"separable(?P<number>\d)_(?P<part>depthwise|pointwise)"
    block = r"(?P<flow>entry|exit)_block(?P<block>\d)"
    first = rf"{scope}/\g<flow>_flow/block\g<block>/unit_1/xception_module"
    return (
        Rule(r"entry_conv(\d)", rf"{scope}/entry_flow/conv1_\1", SLIM),
        Rule(f"{block}_{part}", rf"{first}/separable_conv\g<number>_\g<part>", SLIM),
        Rule(f"{block}_shortcut", f"{first}/shortcut", SLIM),
        Rule(
            rf"middle_unit(?P<unit>\d+)_{part}",
            rf"{scope}/middle_flow/block1/{module}/separable_conv\g<number>_\g<part>",
            SLIM,
        ),
    )


def _head(rates: Sequence[int]) -> tuple[Rule, ...]:
    """ASPP with these atrous rates, decoder and logits."""
    atrous = (Rule(rf"aspp_rate{rate}_(\w+)", rf"aspp{number}_\1", SLIM) for number, rate in enumerate(rates, start=1))
    return (
        Rule("aspp_image", "image_pooling", SLIM),
        Rule("aspp_point", "aspp0", SLIM),
        *atrous,
        Rule("aspp_projection", "concat_projection", SLIM),
        Rule("decoder_low_level", "decoder/feature_projection0", SLIM),
        Rule(r"decoder_conv1_(\w+)", r"decoder/decoder_conv0_\1", SLIM),
        Rule(r"decoder_conv2_(\w+)", r"decoder/decoder_conv1_\1", SLIM),
        Rule("logits", "logits/semantic", SLIM),
    )


def _slot_or_counter(name: str, used: frozenset[str]) -> str | None:
    variable, _, slot = name.rpartition("/")
    if variable in used and slot in SLOTS:
        return slot
    return "counters" if name in _COUNTERS else None

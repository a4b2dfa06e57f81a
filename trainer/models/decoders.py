"""The decoders of DeepLabV3+: its ASPP and decoder module in several sizes. A new one is a row of `DECODERS`."""

from __future__ import annotations

from typing import NamedTuple


class Decoder(NamedTuple):
    """Numbers of filters: of ASPP and the decoder module, and of the features at stride 4 that the latter gets."""

    filters: int
    low_level_filters: int


DECODERS = {
    # ASPP: section 3.1 of Chen et al. 2018, arXiv 1802.02611; depth in research/deeplab/model.py of tensorflow/models.
    # Decoder: tables 1 and 2; feature_projection0 and decoder_depth in model.py.
    "full": Decoder(filters=256, low_level_filters=48),
    # For mobile backbones. 128: F in table 7 of Howard et al. 2019, arXiv 1905.02244, filters of the segmentation head
    # of MobileNetV3, which is another one. 24: ours, the same half of the full decoder's.
    "light": Decoder(filters=128, low_level_filters=24),
}

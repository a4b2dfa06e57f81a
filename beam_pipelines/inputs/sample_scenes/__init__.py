"""A miniature Cityscapes, drawn: street scenes with pixel-exact masks, for demos and tests without a download.

A scene is a function of its key alone, so any thread or machine draws it to the same pixels. Space is in meters from
the ego car's camera: x to the right, y up from the ground, z ahead. Every shape goes into image and mask from the same
integer corners, far shapes first; only light (shadow, texture, blur, noise) touches the image alone.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping

import numpy as np
from PIL import Image

from beam_pipelines.inputs.sample_scenes.canvas import Canvas, draw_ego, expose, label_ids_of
from beam_pipelines.inputs.sample_scenes.street import draw_street

SCENES = {"train": 120, "val": 40}
# Invented, and others in val: as in Cityscapes, no city is in two splits.
CITIES = {"train": ("arvenau", "birkfurten", "castelrode"), "val": ("dornhalde", "elmsweiler")}


def draw_scene(key: str, height: int = 512, width: int = 1024) -> tuple[np.ndarray, np.ndarray]:
    """Draws the scene called `key` -> RGB uint8[H, W, 3] and Cityscapes label ids uint8[H, W].

    The same key at another size is the same scene.
    """
    image, label_ids, _ = draw_layers(key, height, width)
    return image, label_ids


def draw_layers(key: str, height: int = 512, width: int = 1024) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same -> also Cityscapes' instance ids, uint16[H, W]: id * 1000 + n for the n-th vehicle or person of a label,
    as far as it is visible, and the label id of all else.
    """
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:16], "big")
    rng = np.random.Generator(np.random.PCG64(seed))
    canvas = Canvas(rng, height, width)
    draw_street(canvas)
    draw_ego(canvas)
    instance_ids = np.asarray(canvas.mask).astype(np.uint16)
    label_ids = label_ids_of(instance_ids)
    return expose(canvas, label_ids), label_ids, instance_ids


def list_scenes(scenes: Mapping[str, int] = SCENES) -> list[str]:
    """Keys such as "train/arvenau/arvenau_000003_000019"; fewer scenes of a split are its first ones."""
    keys = []
    for split, count in scenes.items():
        for index in range(count):
            sequence, place = divmod(index, len(CITIES[split]))
            city = CITIES[split][place]
            keys.append(f"{split}/{city}/{city}_{sequence:06d}_000019")
    return keys


def scene_file_names(key: str) -> tuple[str, str, str]:
    """Paths of the image, its label ids and its instance ids of the scene `key`, in the official Cityscapes layout."""
    mask = f"gtFine/{key}_gtFine"
    return f"leftImg8bit/{key}_leftImg8bit.png", f"{mask}_labelIds.png", f"{mask}_instanceIds.png"


def draw_scene_files(key: str, height: int = 512, width: int = 1024) -> dict[str, bytes]:
    """Draws the scene called `key` -> its PNG files by their paths, as `scene_file_names` has them."""
    layers = draw_layers(key, height, width)
    return {name: _encode_png(array) for name, array in zip(scene_file_names(key), layers, strict=True)}


def _encode_png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=2)
    return file.getvalue()

"""Which files are images, by the ends of their names; the pipeline and `trainer.predict` find the same ones."""

from __future__ import annotations

IMAGE_TYPES = ("jpg", "jpeg", "jpe", "jfif", "png", "bmp", "tif", "tiff", "webp")

"""What a pixel is, and how many of them an image may have."""

from __future__ import annotations

CHANNELS = 3  # red, green, blue
LEVELS = 256  # of a channel, 0..255
MAX_SIZE = 2**31 - 1  # of a height or width: what PNG can say
MAX_IMAGE_PIXELS = 100_000_000  # where no other limit is given

"""One scene's image and mask: perspective, light and haze, what is painted on both, and the camera's noise."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from beam_pipelines.contract.labels import BUILTIN_TABLES
from beam_pipelines.inputs.sample_scenes.paints import PAINTS, SKIES, TEXTURES

Color = tuple[float, ...]
Span = Sequence[float]  # of two
Point = tuple[float, float, float]
Face = tuple[Point, Point, Point, Point]  # bottom left, bottom right, top right, top left

_ID = {row.name: row.source_ids[0] for row in BUILTIN_TABLES["cityscapes19"]().labels}
# cityscapesScripts, helpers/labels.py: the labels with `hasInstances`, and their ids in instanceIds.
_WITH_INSTANCES = ("person", "rider", "car", "truck", "bus", "caravan", "trailer", "train", "motorcycle", "bicycle")
_INSTANCES = 1000  # id * 1000 + number of the instance
_LABEL_OF = np.arange(34 * _INSTANCES)
_LABEL_OF = np.where(_LABEL_OF < _INSTANCES, _LABEL_OF, _LABEL_OF // _INSTANCES).astype(np.uint8)
_EYE = 1.4  # camera height, meters
_CUTS = (3.5, 5, 7, 9, 12, 15, 19, 24, 30, 37, 46, 58, 73, 92, 120, 160, 200)  # where ground is cut, for haze and bends


class Canvas:
    """One scene's image and mask, its camera, its light and its random numbers. The mask has instance ids."""

    def __init__(self, rng: np.random.Generator, height: int, width: int) -> None:
        self.rng, self.height, self.width = rng, height, width
        self.focal, self.horizon = 0.92 * width, height * rng.uniform(0.40, 0.48)
        self.center, self.bend = width * rng.uniform(0.38, 0.62), rng.uniform(-0.0007, 0.0007)
        zenith, self.haze, self.light, self.shadow = SKIES[rng.integers(len(SKIES))]
        self.visibility, self.sun = rng.uniform(160, 520), int(rng.choice((-1, 1)))
        self.image = _draw_sky(rng, (width, height), self.horizon, zenith, self.haze)
        self.mask = Image.new("I", (width, height), _ID["sky"])
        self._count = dict.fromkeys(_WITH_INSTANCES, 0)
        self._ids: dict[str, int] = {}  # label -> instance id, of the present figure
        self.image_pen, self.mask_pen = ImageDraw.Draw(self.image), ImageDraw.Draw(self.mask)
        self.shadow_pen = ImageDraw.Draw(self.image, "RGBA")

    def start_figure(self) -> None:
        """What is drawn from here on is an instance of its own, one of each label that has instances."""
        self._ids = {}

    def _id(self, label: str) -> int:
        if label not in self._count:
            return _ID[label]
        if label not in self._ids:
            self._ids[label] = _ID[label] * _INSTANCES + self._count[label]
            self._count[label] += 1
        return self._ids[label]

    def pick(self, paint: str, spread: float = 14) -> Color:
        """A color of `paint`, each channel shifted by up to about `spread`."""
        codes = PAINTS[paint]
        *tone, level = self.rng.uniform(-spread, spread, 4).tolist()
        rgb = codes[self.rng.integers(len(codes))]
        return tuple(channel + 0.4 * shift + level for channel, shift in zip(rgb, tone, strict=True))

    def project(self, point: Point) -> tuple[int, int]:
        """Meters -> pixel (column, row)."""
        x, y, z = point
        column = self.center + self.focal * (x / z + self.bend * z)
        return round(column), round(self.horizon + self.focal * (_EYE - y) / z)

    def tint(self, color: Color, z: float) -> tuple[int, ...]:
        """RGB of a surface of `color` at `z` meters: lit, then veiled by haze."""
        clear = self.visibility / (self.visibility + z)
        channels = zip(color, self.light, self.haze, strict=True)
        return tuple(min(255, max(0, int(c * gain * clear + veil * (1 - clear)))) for c, gain, veil in channels)

    def polygon(self, points: Sequence[Point], color: Color, label: str) -> None:
        corners = [self.project(point) for point in points]
        columns = [column for column, _ in corners]
        if max(columns) >= 0 and min(columns) < self.width:
            self.image_pen.polygon(corners, fill=self.tint(color, points[0][2]))
            self.mask_pen.polygon(corners, fill=self._id(label))

    def ellipse(self, center: Point, radii: Span, color: Color, label: str, rim: float = 0) -> None:
        """`rim` > 0 paints only a rim that wide, in meters, and labels all inside it."""
        (column, row), scale = self.project(center), self.focal / center[2]
        right, down = round(radii[0] * scale), round(radii[1] * scale)
        box, fill = (column - right, row - down, column + right, row + down), self.tint(color, center[2])
        self.image_pen.ellipse(box, None if rim else fill, fill, max(1, round(rim * scale)))
        self.mask_pen.ellipse(box, self._id(label), self._id(label))

    def panel(self, face: Face, u: Span, v: Span, color: Color, label: str) -> None:
        """The part of `face` from u[0] to u[1] across and v[0] to v[1] up, both as shares of the face."""
        corners = ((u[0], v[0]), (u[1], v[0]), (u[1], v[1]), (u[0], v[1]))
        self.polygon([_point_on(face, *corner) for corner in corners], color, label)

    def ground(self, x: Span, z: Span, color: Color, label: str) -> None:
        for near, far in pairwise(_cuts(z)):
            self.polygon([(x[0], 0, near), (x[1], 0, near), (x[1], 0, far), (x[0], 0, far)], color, label)

    def shade(self, x: Span, z: Span, opacity: int) -> None:
        """Darkens a rectangle of the ground in the image; `opacity` is 0 to 255."""
        outline = [(x[0], 0, cut) for cut in _cuts(z)] + [(x[1], 0, cut) for cut in reversed(_cuts(z))]
        self.shadow_pen.polygon([self.project(point) for point in outline], fill=(8, 10, 24, opacity))

    def box(self, base: Point, size: Point, color: Color, label: str, slant: Point = (0, 0, 0)) -> list[Face]:
        """A box `size` wide, high, long, its near bottom edge centered on `base` -> its near face and any visible side.

        `slant` is by how much the top is narrower on each side, starts later and ends sooner, in meters.
        """
        (x, y, z), (width, height, length), (aside, start, end) = base, size, slant
        low = [
            (x - width / 2, y, z),
            (x + width / 2, y, z),
            (x + width / 2, y, z + length),
            (x - width / 2, y, z + length),
        ]
        depths = (start, start, length - end, length - end)
        high = [
            (px + (aside if px < x else -aside), y + height, z + depth)
            for (px, _, _), depth in zip(low, depths, strict=True)
        ]
        faces = [((low[0], low[1], high[1], high[0]), 0.92)]
        if self.project(low[2])[0] > self.project(low[1])[0]:
            faces.append(((low[1], low[2], high[2], high[1]), 1.12 if self.sun > 0 else 0.7))
        elif self.project(low[3])[0] < self.project(low[0])[0]:
            faces.append(((low[0], low[3], high[3], high[0]), 1.12 if self.sun < 0 else 0.7))
        for face, gain in [(high, 1.2), *reversed(faces)]:
            self.polygon(face, scale_color(color, gain), label)
        return [face for face, _ in faces]


def scale_color(color: Color, gain: float) -> Color:
    """`color`, `gain` times as bright."""
    return tuple(channel * gain for channel in color)


def _cuts(z: Span) -> list[float]:
    return [z[0], *(cut for cut in _CUTS if z[0] < cut < z[1]), z[1]]


def _point_on(face: Face, u: float, v: float) -> Point:
    (ax, ay, az), (bx, by, bz), (cx, cy, cz), (dx, dy, dz) = face
    a, b, c, d = (1 - u) * (1 - v), u * (1 - v), u * v, (1 - u) * v
    return a * ax + b * bx + c * cx + d * dx, a * ay + b * by + c * cy + d * dy, a * az + b * bz + c * cz + d * dz


def _draw_noise(rng: np.random.Generator, size: tuple[int, int], cells: tuple[int, int]) -> Image.Image:
    """Smooth noise, mode L: `cells` random values (rows, columns), upsampled to `size` (width, height)."""
    return Image.fromarray(rng.integers(0, 256, cells, np.uint8)).resize(size, Image.Resampling.BICUBIC)


def _draw_sky(
    rng: np.random.Generator, size: tuple[int, int], horizon: float, zenith: Color, haze: Color
) -> Image.Image:
    """Mode RGB, `size` is (width, height): a gradient from `zenith` to `haze` at the horizon, with clouds."""
    down = np.clip(np.arange(size[1]) / horizon, 0, 1)[:, None, None]
    gradient = Image.fromarray((np.array(zenith) * (1 - down) + np.array(haze) * down).astype(np.uint8)).resize(size)
    clouds = Image.blend(_draw_noise(rng, size, (9, 7)), _draw_noise(rng, size, (30, 22)), 0.38)
    cover, white = int(rng.integers(90, 170)), rng.uniform(225, 250)
    opacity = clouds.point([min(200, max(0, (level - cover) * 5)) for level in range(256)])
    cloud = Image.new("RGB", size, tuple(int((white + channel) / 2) for channel in haze))
    return Image.composite(cloud, gradient, opacity)


def draw_ego(canvas: Canvas) -> None:
    """The hood of the ego car, and the frame that a camera's rectification leaves."""
    width, height, paint = canvas.width, canvas.height, canvas.pick("car", 8)
    for step in range(8):
        box = (-0.15 * width, height * (0.915 + 0.009 * step), 1.15 * width, height * 1.3)
        canvas.image_pen.ellipse(box, canvas.tint(scale_color(paint, 0.55 + 0.06 * step), 1))
        canvas.mask_pen.ellipse(box, _ID["ego vehicle"])
    canvas.mask_pen.rectangle((0, 0, width - 1, height - 1), None, _ID["out of roi"], max(1, height // 170))


def label_ids_of(instance_ids: np.ndarray) -> np.ndarray:
    """Cityscapes' instanceIds -> its labelIds, uint8 of the same shape."""
    return np.asarray(_LABEL_OF[instance_ids])


def expose(canvas: Canvas, label_ids: np.ndarray) -> np.ndarray:
    """What the camera makes of the drawing: texture, uneven light, soft edges, sensor noise -> uint8[H, W, 3].
    `label_ids` are those of the canvas's mask, uint8[H, W].
    """
    rng, size, strength = canvas.rng, canvas.image.size, np.zeros(256, np.float32)
    for label, share in TEXTURES.items():
        strength[_ID[label]] = share
    grain = Image.blend(_draw_noise(rng, size, (64, 128)), _draw_noise(rng, size, (170, 340)), 0.5)
    gain = strength[label_ids] * ((np.asarray(grain, np.float32) - 127.5) / 70)
    gain += np.asarray(_draw_noise(rng, size, (4, 6)), np.float32) * (0.22 / 255) + 0.89
    lit = np.clip(np.asarray(canvas.image) * gain[..., None], 0, 255).astype(np.uint8)
    soft = Image.fromarray(lit).filter(ImageFilter.BoxBlur(0.5 * canvas.width / 1024))
    noise = rng.integers(-2, 3, (canvas.height, canvas.width, 1), np.int16)
    image: np.ndarray = np.clip(np.asarray(soft, np.int16) + noise, 0, 255).astype(np.uint8)
    return image

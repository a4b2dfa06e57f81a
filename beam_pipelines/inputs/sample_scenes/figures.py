"""People, bicycles, poles, signs and vehicles: the tables of their shapes, and how they are drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from beam_pipelines.inputs.sample_scenes.canvas import Canvas, Face, Point, Span, scale_color

_CIRCLE = tuple((math.cos(step * math.pi / 6), math.sin(step * math.pi / 6)) for step in range(12))

# Upright figures: label, paint, brightness, outline. An outline is points "x,y" in centimeters; "o" is an ellipse by
# center and radii, "r" the same but only its rim is painted (wheels: Cityscapes labels all inside), "l" a line.
_RIDER = (
    ("rider", "trousers", 1.0, "-30,95 -5,100 20,65 0,22 -10,25 4,62"),
    ("rider", "clothes", 1.0, "-34,92 -2,92 26,136 12,152 -10,145"),
    ("rider", "clothes", 0.75, "8,140 20,142 46,110 38,104"),
    ("rider", "skin", 1.0, "o 20,162 12,15"),
    ("rider", "car", 1.0, "o 18,170 14,10"),
)
_BICYCLE = (
    ("bicycle", "tire", 1.0, "r -55,34 34,34"),
    ("bicycle", "tire", 1.0, "r 55,34 34,34"),
    ("bicycle", "car", 1.0, "l -55,34 -20,85"),
    ("bicycle", "car", 1.0, "l -20,80 40,85"),
    ("bicycle", "car", 1.0, "l -10,34 40,85"),
    ("bicycle", "car", 1.0, "l -10,34 -24,94"),
    ("bicycle", "car", 1.0, "l 55,34 38,105"),
    ("bicycle", "car", 1.0, "l -55,34 -10,34"),
    ("bicycle", "tire", 1.0, "20,102 45,102 45,108 20,108"),
)
_MOTORCYCLE = (
    ("motorcycle", "tire", 1.0, "o -58,32 32,32"),
    ("motorcycle", "tire", 1.0, "o 58,32 32,32"),
    ("motorcycle", "rim", 1.0, "o -58,32 15,15"),
    ("motorcycle", "rim", 1.0, "o 58,32 15,15"),
    ("motorcycle", "steel", 1.0, "l 58,32 36,100"),
    ("motorcycle", "car", 1.0, "-80,76 -20,82 30,98 56,66 25,24 -35,24"),
    ("motorcycle", "tire", 1.0, "-80,82 -10,86 -10,74 -72,68"),
    ("motorcycle", "tire", 1.0, "l 20,104 44,104"),
)
_FIGURES = {
    "walker": (
        ("person", "trousers", 0.8, "-13,85 13,85 -16,5 -12,0 -32,0"),
        ("person", "trousers", 1.0, "-13,85 13,85 30,6 36,0 16,0"),
        ("person", "clothes", 0.7, "22,142 38,88 32,82 10,130"),
        ("person", "clothes", 1.0, "-20,78 20,78 23,142 8,150 -8,150 -23,142"),
        ("person", "clothes", 0.8, "-22,142 -32,86 -24,82 -12,130"),
        ("person", "skin", 1.0, "o 0,163 12,15"),
        ("person", "hair", 1.0, "o -2,171 13,8"),
    ),
    "stander": (
        ("person", "trousers", 0.9, "-14,60 0,60 -2,0 -14,0"),
        ("person", "trousers", 1.0, "1,60 14,60 14,0 3,0"),
        ("person", "clothes", 1.0, "-24,56 24,56 18,100 24,142 8,150 -8,150 -24,142 -18,100"),
        ("person", "clothes", 0.75, "22,142 32,84 24,80 15,130"),
        ("person", "clothes", 0.75, "-22,142 -32,84 -24,80 -15,130"),
        ("person", "cargo", 0.7, "22,62 44,62 42,84 24,84"),
        ("person", "skin", 1.0, "o 0,163 11,15"),
        ("person", "hair", 1.0, "o 0,169 14,11"),
    ),
    "bicycle": _BICYCLE,
    "cyclist": (*_BICYCLE, *_RIDER),
    "motorcycle": _MOTORCYCLE,
    "motorcyclist": (*_MOTORCYCLE, *_RIDER),
    "lamp": (
        ("pole", "steel", 1.0, "-8,0 8,0 5,750 -5,750"),
        ("pole", "steel", 1.0, "0,738 0,750 190,770 190,756"),
        ("pole", "steel", 1.4, "150,748 230,756 222,776 158,770"),
    ),
    "traffic light": (
        ("pole", "steel", 1.0, "-7,0 7,0 7,260 -7,260"),
        ("traffic light", "black", 1.0, "-20,250 20,250 20,352 -20,352"),
        ("traffic light", "red", 1.2, "o 0,334 12,12"),
        ("traffic light", "amber", 0.25, "o 0,301 12,12"),
        ("traffic light", "green", 0.25, "o 0,268 12,12"),
    ),
    "no entry": (
        ("pole", "steel", 1.0, "-4,0 4,0 4,250 -4,250"),
        ("traffic sign", "red", 1.0, "o 0,250 42,42"),
        ("traffic sign", "white", 1.0, "-28,243 28,243 28,257 -28,257"),
    ),
    "limit": (
        ("pole", "steel", 1.0, "-4,0 4,0 4,230 -4,230"),
        ("traffic sign", "red", 1.0, "o 0,240 40,40"),
        ("traffic sign", "white", 1.0, "o 0,240 29,29"),
        ("traffic sign", "black", 1.0, "-14,230 -3,230 -3,252 -14,252"),
        ("traffic sign", "black", 1.0, "3,230 14,230 14,252 3,252"),
    ),
    "warning": (
        ("pole", "steel", 1.0, "-4,0 4,0 4,230 -4,230"),
        ("traffic sign", "red", 1.0, "-48,215 48,215 0,298"),
        ("traffic sign", "white", 1.0, "-31,225 31,225 0,279"),
    ),
    "parking": (
        ("pole", "steel", 1.0, "-4,0 4,0 4,220 -4,220"),
        ("traffic sign", "white", 1.0, "-38,205 38,205 38,281 -38,281"),
        ("traffic sign", "blue", 1.0, "-34,209 34,209 34,277 -34,277"),
        ("traffic sign", "white", 1.0, "-14,218 -6,218 -6,268 -14,268"),
        ("traffic sign", "white", 1.0, "-8,240 8,240 14,246 14,262 8,268 -8,268"),
        ("traffic sign", "blue", 1.0, "-6,247 5,247 5,261 -6,261"),
    ),
    "direction": (
        ("pole", "steel", 1.0, "-75,0 -67,0 -67,300 -75,300"),
        ("pole", "steel", 1.0, "67,0 75,0 75,300 67,300"),
        ("traffic sign", "amber", 0.95, "-110,230 110,230 110,330 -110,330"),
        ("traffic sign", "black", 1.0, "-85,292 60,292 60,306 -85,306"),
        ("traffic sign", "black", 1.0, "-85,258 25,258 25,272 -85,272"),
    ),
}
SIGNS = ("no entry", "limit", "warning", "parking", "direction")
# Vehicles heading away, as boxes in meters: paint, width, bottom, height, start, end, slant of the near and far end,
# panes along the side, and from where to where on the box's height its panes reach.
_HATCHBACK = (
    ("car", 1.75, 0.28, 0.62, 0.0, 4.0, 0.05, 0.05, 0, (0, 0)),
    ("car", 1.65, 0.90, 0.58, 0.1, 3.9, 0.35, 1.3, 2, (0.1, 0.86)),
)
_SALOON = (
    ("car", 1.8, 0.28, 0.60, 0.0, 4.6, 0.05, 0.1, 0, (0, 0)),
    ("car", 1.7, 0.88, 0.55, 0.1, 4.5, 1.1, 1.5, 2, (0.1, 0.86)),
)
_VAN = (
    ("car", 1.95, 0.28, 0.9, 0.0, 4.9, 0.05, 0.05, 0, (0, 0)),
    ("car", 1.85, 1.18, 0.85, 0.1, 4.8, 0.08, 0.9, 3, (0.1, 0.8)),
)
VEHICLES = {
    "car": (_HATCHBACK, _SALOON, _VAN),
    "bus": ((("coach", 2.5, 0.35, 2.7, 0.0, 11.0, 0.05, 0.05, 7, (0.44, 0.86)),),),
    "train": (
        (
            ("coach", 2.4, 0.2, 3.2, 0.0, 26.0, 0.5, 0.5, 16, (0.36, 0.8)),
            ("steel", 1.6, 3.4, 0.4, 3.0, 23.0, 0.3, 0.3, 0, (0, 0)),
        ),
    ),
    "truck": (
        (
            ("black", 2.2, 0.45, 0.6, 0.2, 6.0, 0, 0, 0, (0, 0)),
            ("cargo", 2.5, 0.9, 2.6, 0.0, 5.7, 0, 0, 0, (0, 0)),
            ("coach", 2.4, 0.4, 2.3, 5.9, 8.0, 0, 0.2, 1, (0.5, 0.9)),
        ),
    ),
}


def draw_figure(canvas: Canvas, name: str, x: float, z: float, stretch: Span = (1, 1)) -> None:
    """`stretch` scales across and up; a small or negative first factor is a figure seen at an angle or mirrored."""
    canvas.start_figure()
    colors = {paint: canvas.pick(paint) for _, paint, _, _ in _FIGURES[name]}
    half = 0.12 if "steel" in colors else 0.3 + 0.4 * abs(stretch[0])
    canvas.shade((x - half, x + half), (z - 0.25, z + 0.3), 110)
    for label, paint, gain, outline in _FIGURES[name]:
        color, words = scale_color(colors[paint], gain), outline.split()
        pairs = [tuple(int(number) / 100 for number in word.split(",")) for word in words if "," in word]
        points = [(x + right * stretch[0], up * stretch[1], z) for right, up in pairs]
        if words[0] in "or":
            radii = (pairs[1][0] * abs(stretch[0]), pairs[1][1] * stretch[1])
            canvas.ellipse(points[0], radii, color, label, 0.06 if words[0] == "r" else 0)
        elif words[0] == "l":
            (ax, ay, _), (bx, by, _) = points
            points = [(ax - 0.04, ay - 0.03, z), (bx - 0.04, by, z), (bx + 0.04, by + 0.03, z), (ax + 0.04, ay, z)]
            canvas.polygon(points, color, label)
        else:
            canvas.polygon(points, color, label)


def draw_vehicle(canvas: Canvas, label: str, x: float, z: float) -> None:
    """Draws one of the models of `label`, its near end at `z`; on the lanes left of the camera it comes towards us."""
    canvas.start_figure()
    model: Sequence[Any] = VEHICLES[label][canvas.rng.integers(len(VEHICLES[label]))]
    width, length, oncoming = model[0][1], max(part[5] for part in model), x < -1.5
    colors = {paint: canvas.pick(paint) for paint in ("glass", *(part[0] for part in model))}
    canvas.shade((x - width / 2 - 0.15, x + width / 2 + 0.15), (z - 0.2, z + length + 0.2), 150)
    if oncoming:
        model = [(*part[:4], length - part[5], length - part[4], part[7], part[6], *part[8:]) for part in model]
    for paint, wide, bottom, height, start, end, near, far, panes, v in sorted(
        model, key=lambda p: (-round(p[4]), p[2])
    ):
        slant = (0.2 if bottom > 0.8 and near else 0.04, near, far)
        faces = canvas.box((x, bottom, z + start), (wide, height, end - start), colors[paint], label, slant)
        for face in faces:
            if bottom < 0.4:
                canvas.panel(face, (0, 1), (0, 0.2 / height), scale_color(colors[paint], 0.5), label)
            count = panes if face[0][2] < face[1][2] else min(panes, 1)
            for pane in range(count):
                u = ((pane + 0.07) / count, (pane + 0.93) / count)
                canvas.panel(face, u, v, colors["glass"], label)
    _draw_fittings(canvas, label, (x, 0, z), (width, length), oncoming)


def _draw_fittings(canvas: Canvas, label: str, base: Point, size: Span, oncoming: bool) -> None:
    """Wheels, lamps and number plate of a vehicle `size` wide and long."""
    (x, _, z), (width, length) = base, size

    def plate(right: float, up: float, wide: float, high: float, paint: str) -> None:
        left, bottom, top = x + right - wide / 2, up - high / 2, up + high / 2
        canvas.polygon(_upright(left, left + wide, bottom, top, z), canvas.pick(paint), label)

    for side in (-1, 1):
        plate(side * (width / 2 - 0.16), 0.24, 0.26, 0.48, "tire")
        plate(side * (width / 2 - 0.24), 0.7, 0.34, 0.16, "white" if oncoming else "red")
    plate(0, 0.5, 0.5, 0.12, "white")
    flank = x - math.copysign(width / 2, x)
    for depth in (length - 0.8, 0.8) if abs(x) > width / 2 else ():
        for radius, paint in ((0.36, "tire"), (0.2, "rim")):
            circle = [(flank, 0.36 + radius * up, z + depth + radius * ahead) for ahead, up in _CIRCLE]
            canvas.polygon(circle, canvas.pick(paint), label)


def _upright(left: float, right: float, bottom: float, top: float, z: float) -> Face:
    return (left, bottom, z), (right, bottom, z), (right, top, z), (left, top, z)

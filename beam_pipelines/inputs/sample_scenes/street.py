"""A street: the plan of its lanes, plots and pavements, its ground, houses and trees, and where figures stand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from beam_pipelines.inputs.sample_scenes.canvas import Canvas, Color, Face, Point, Span, scale_color
from beam_pipelines.inputs.sample_scenes.figures import SIGNS, VEHICLES, draw_figure, draw_vehicle

Thing = tuple[float, Callable[[], object]]  # its depth in meters, and what draws it

_FAR = 240.0  # the street's end, meters


def draw_street(canvas: Canvas) -> None:
    """Draws a street planned from the canvas's random numbers: skyline, ground, then all on it, far things first."""
    street = _Street(canvas.rng)
    _draw_skyline(canvas)
    _draw_ground(canvas, street)
    things = [*_plan_plots(canvas, street), *_plan_traffic(canvas, street)]
    things += [*_plan_pavement(canvas, street, -1), *_plan_pavement(canvas, street, 1)]
    for _, draw in sorted(things, key=lambda thing: -thing[0]):
        draw()


class _Street:
    """The plan of a street: x of its lanes, curbs and building lines; sides are (left, right)."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.lane, (ahead, oncoming) = rng.uniform(3.1, 3.6), rng.integers(1, 3, 2)
        self.lanes = [self.lane * step for step in range(-int(oncoming), int(ahead))]
        self.parking = rng.random(2) < 0.7
        edges = np.array((self.lanes[0] - self.lane / 2, self.lanes[-1] + self.lane / 2))
        self.curbs = edges + (-2.1, 2.1) * self.parking
        self.verges = rng.uniform(1.2, 2.4, 2) * (rng.random(2) < 0.4) * (-1, 1)
        self.walls = self.curbs + self.verges + rng.uniform(2.4, 4.2, 2) * (-1, 1)
        self.crossing = rng.uniform(22, 60) if rng.random() < 0.6 else None


def _draw_ground(canvas: Canvas, street: _Street) -> None:
    slab, asphalt, everywhere = canvas.pick("slab"), canvas.pick("asphalt"), (1.5, _FAR)
    for side, curb, verge in zip((-1, 1), street.curbs, street.verges, strict=True):
        canvas.ground((curb, side * 150), everywhere, slab, "sidewalk")
        canvas.ground((curb, curb + verge), everywhere, canvas.pick("grass"), "terrain")
        canvas.ground((curb, curb + side * 0.25), everywhere, scale_color(slab, 1.15), "sidewalk")
    canvas.ground(tuple(street.curbs), everywhere, asphalt, "road")
    for _ in range(canvas.rng.integers(3, 9)):
        x, z, wide, long = canvas.rng.uniform((street.curbs[0], 4, 0.5, 1), (street.curbs[1] - 1, 50, 1, 6))
        canvas.ground((x, x + wide), (z, z + long), scale_color(asphalt, 0.87), "road")
    if street.crossing:
        canvas.ground((-150, 150), (street.crossing, street.crossing + 9), asphalt, "road")
    _draw_markings(canvas, street)
    if canvas.shadow:
        canvas.shade((street.walls[int(canvas.sun < 0)], canvas.rng.uniform(-4, 4)), everywhere, canvas.shadow)


def _draw_markings(canvas: Canvas, street: _Street) -> None:
    paint = scale_color(canvas.pick("white"), 0.92)
    for x in street.lanes[1:]:
        line = (x - street.lane / 2 - 0.07, x - street.lane / 2 + 0.07)
        for z in np.arange(canvas.rng.uniform(2, 5), 130, 7.0).tolist():
            canvas.ground(line, (z, z + 3), paint, "road")
    if street.crossing:
        for x in np.arange(street.curbs[0] + 0.4, street.curbs[1] - 0.6, 1.0).tolist():
            canvas.ground((x, x + 0.5), (street.crossing - 4.5, street.crossing - 1.5), paint, "road")


def _draw_skyline(canvas: Canvas) -> None:
    for x in np.arange(-190, 190, 13.0).tolist():
        canvas.box((x, 0, _FAR), (16, canvas.rng.uniform(6, 30), 1), canvas.pick("facade"), "building")
        if canvas.rng.random() < 0.6:
            _draw_foliage(canvas, (x, 4, _FAR - 4), (8, canvas.rng.uniform(4, 9)), 10)


def _draw_foliage(canvas: Canvas, center: Point, radii: Span, blobs: int) -> None:
    """A crown or bush of `blobs` leaf clusters, lighter at its top and towards the sun."""
    leaves, shapes = canvas.pick("leaves"), canvas.rng.uniform((-1, -1, 0.24), (1, 1, 0.44), (blobs, 3)).tolist()
    column, reach = canvas.project(center)[0], 1.2 * radii[0] * canvas.focal / center[2]
    if not -reach < column < canvas.width + reach:
        return
    for index, (share, up, size) in enumerate(shapes):
        across = 0.75 * share * math.sqrt(1 - up * up)
        point = (center[0] + across * radii[0], center[1] + up * 0.75 * radii[1], center[2])
        gain = 0.62 + 0.26 * up + 0.2 * across * canvas.sun + 0.5 * index / blobs
        canvas.ellipse(point, (radii[0] * size, radii[1] * size), scale_color(leaves, gain), "vegetation")


def _draw_tree(canvas: Canvas, x: float, z: float) -> None:
    height, radius = canvas.rng.uniform((4.5, 1.4), (8, 2.6))
    canvas.shade((x - radius, x + radius), (z - radius, z + radius), canvas.shadow // 2 + 20)
    trunk = [(x - 0.2, 0, z), (x + 0.2, 0, z), (x + 0.1, height - radius, z), (x - 0.1, height - radius, z)]
    canvas.polygon(trunk, canvas.pick("bark"), "vegetation")
    _draw_foliage(canvas, (x, height - radius * 0.4, z), (radius, radius * 1.2), 46 if z < 50 else 18)


def _draw_building(canvas: Canvas, x: float, z: Span) -> None:
    """A house whose street front runs along `x` from z[0] to z[1]."""
    (near, far), side = z, 1 if x > 0 else -1
    floors, floor = int(canvas.rng.integers(2, 6)), canvas.rng.uniform(2.9, 3.5)
    height, facade, back = floors * floor + 0.6, canvas.pick("facade", 22), x + side * 12
    top = (x + side * 6, height + canvas.rng.uniform(1, 3.5))
    gable = [(x, 0, near), (back, 0, near), (back, height, near), (*top, near), (x, height, near)]
    eave = x - side * 0.35
    canvas.polygon(gable, scale_color(facade, 0.62), "building")
    roof = [(eave, height, near), (eave, height, far), (*top, far), (*top, near)]
    canvas.polygon(roof, canvas.pick("roof"), "building")
    front = ((x, 0, near), (x, 0, far), (x, height, far), (x, height, near))
    facade = scale_color(facade, 1.1 if side == -canvas.sun else 0.82)
    canvas.polygon(front, facade, "building")
    canvas.panel(front, (0, 1), (1 - 0.35 / height, 1), scale_color(facade, 0.75), "building")
    _draw_windows(canvas, front, floors, floor / height, facade)


def _draw_windows(canvas: Canvas, front: Face, floors: int, floor: float, facade: Color) -> None:
    """Rows of windows, sometimes over shops; `floor` is the share of the front's height that one floor takes."""
    near, far = front[0][2], front[1][2]
    pitch, half, frame = canvas.rng.uniform((2.2, 0.2, 0.75), (3.4, 0.34, 1.3))
    count, glass, shop = max(2, int((far - near) / pitch)), canvas.pick("glass"), canvas.rng.random() < 0.5
    if shop:
        canvas.panel(front, (0, 1), (0, floor * 0.95), canvas.pick("clothes", 24), "building")
    for row in range(floors if near < 90 else 0):  # farther windows are below a pixel
        low, high, wide = (0.08, 0.72, 0.4) if shop and row == 0 else (row + 0.3, row + 0.82, half)
        for column in range(count):
            left, right = (column + 0.5 - wide) / count, (column + 0.5 + wide) / count
            if near < 45:
                rim = wide * 0.22 / count
                v = ((low - 0.05) * floor, (high + 0.04) * floor)
                canvas.panel(front, (left - rim, right + rim), v, scale_color(facade, frame), "building")
            pane = scale_color(glass, canvas.rng.uniform(0.7, 1.5))
            canvas.panel(front, (left, right), (low * floor, high * floor), pane, "building")
            if near < 22:
                middle, bar = (left + right) / 2, rim * 0.4
                canvas.panel(
                    front,
                    (middle - bar, middle + bar),
                    (low * floor, high * floor),
                    scale_color(facade, frame),
                    "building",
                )


def _draw_yard(canvas: Canvas, x: float, z: Span) -> None:
    """An open plot: trees on grass behind a wall, a fence or only a hedge."""
    (near, far), side = z, 1 if x > 0 else -1
    canvas.ground((x, x + side * 30), z, canvas.pick("grass"), "terrain")
    for depth in np.arange(far - 1, near + 1, -4.5).tolist():
        _draw_tree(canvas, x + side * canvas.rng.uniform(2.5, 9), depth)
        _draw_foliage(canvas, (x + side * 1.6, 0.9, depth), (2.2, 1.2), 12)
    kind, height = canvas.rng.choice(("wall", "fence", ""), p=(0.45, 0.4, 0.15)), canvas.rng.uniform(1.3, 2.4)
    face = ((x, 0, near), (x, 0, far), (x, height, far), (x, height, near))
    if kind == "wall":
        stone = canvas.pick("stone")
        canvas.polygon(face, stone, kind)
        canvas.panel(face, (0, 1), (0.9, 1), scale_color(stone, 1.25), kind)
    if kind == "fence":
        canvas.polygon(face, scale_color(canvas.pick("leaves"), 0.7), kind)
        bars, pitch = canvas.pick("bars"), 0.35 / (far - near)
        for u in np.arange(0, 1 - pitch, pitch).tolist():
            canvas.panel(face, (u, u + pitch * 0.45), (0, 1), bars, kind)
        canvas.panel(face, (0, 1), (0.8, 0.88), bars, kind)


def _plan_plots(canvas: Canvas, street: _Street) -> Iterator[Thing]:
    for x in street.walls:
        z = canvas.rng.uniform(3, 6)
        while z < _FAR - 30:
            end = z + canvas.rng.uniform(9, 22)
            if street.crossing and z - 2 < street.crossing + 9 and end > street.crossing - 2:
                z, end = street.crossing + 11, street.crossing + 25
            draw = _draw_building if canvas.rng.random() < 0.72 else _draw_yard
            yield end, partial(draw, canvas, x, (z, end))
            z = end + (canvas.rng.uniform(1, 5) if canvas.rng.random() < 0.2 else 0)


def _plan_traffic(canvas: Canvas, street: _Street) -> Iterator[Thing]:
    rng = canvas.rng
    for x in street.lanes:
        z = rng.uniform(13, 34) if x == 0 else rng.uniform(8, 26)
        while z < 130:
            kind = str(rng.choice(("car", "truck", "bus", "train"), p=(0.86, 0.055, 0.05, 0.035)))
            length = max(part[5] for part in VEHICLES[kind][0])
            yield z + 1, partial(draw_vehicle, canvas, kind, x + rng.uniform(-0.2, 0.2), z)
            z += length + rng.uniform(6, 36)
    for x, parked in zip(street.curbs + np.array((1.05, -1.05)), street.parking, strict=True):
        for z in np.arange(rng.uniform(7, 14), 90, 5.9).tolist() if parked else ():
            if rng.random() < 0.72 and not (street.crossing and street.crossing - 9 < z < street.crossing + 12):
                yield z + 1, partial(draw_vehicle, canvas, "car", x, z)
    for _ in range(rng.integers(0, 4)):
        x, z, angle = (
            rng.uniform(street.lanes[0] - 1, street.lanes[-1] + 1),
            rng.uniform(9, 32),
            rng.uniform(0.45, 1) * rng.choice((-1, 1)),
        )
        yield z, partial(draw_figure, canvas, rng.choice(("cyclist", "cyclist", "motorcyclist")), x, z, (angle, 1))


def _plan_pavement(canvas: Canvas, street: _Street, side: int) -> Iterator[Thing]:
    """What stands on the pavement on the left (`side` -1) or on the right (1)."""
    rng, curb, wall = canvas.rng, street.curbs[int(side > 0)], street.walls[int(side > 0)]
    figure, trees = partial(draw_figure, canvas), rng.random() < 0.6
    for index, z in enumerate(np.arange(rng.uniform(7, 14), 120, rng.uniform(8, 15)).tolist()):
        if index % 3 == 2:
            yield z, partial(figure, "lamp", curb + side * 0.5, z, (-side, 1))
        elif trees:
            yield z, partial(_draw_tree, canvas, curb + side * 0.9, z)
    for _ in range(rng.integers(2, 8)):
        x, z = curb + (wall - curb) * rng.uniform(0.2, 0.85), rng.uniform(8, 45)
        size = (rng.uniform(0.6, 1.05) * rng.choice((-1, 1)), rng.uniform(0.88, 1.08))
        yield z, partial(figure, rng.choice(("walker", "walker", "stander")), x, z, size)
    for z in rng.uniform(9, 30, rng.integers(0, 3)):
        name = rng.choice(("bicycle", "bicycle", "motorcycle"))
        yield z, partial(figure, name, wall - side * 0.6, z, (rng.uniform(0.5, 1), 1))
    for z in rng.uniform(9, 45, rng.integers(1, 4)):
        yield z, partial(figure, rng.choice(SIGNS), curb + side * 0.6, z)
    for z in rng.uniform(9, 30, rng.integers(0, 2)):
        bin_ = ((wall - side * 0.6, 0, z), (0.6, 1.1, 0.7), canvas.pick("car"), rng.choice(("static", "unlabeled")))
        yield z, partial(canvas.box, *bin_)
    if street.crossing:
        yield street.crossing - 5, partial(figure, "traffic light", curb + side * 0.5, street.crossing - 5)

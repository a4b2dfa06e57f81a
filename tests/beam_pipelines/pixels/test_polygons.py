"""Regions are drawn as their tools draw them, polygons exactly but for pixels at an edge; nothing hostile gets far."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco
from pycocotools.coco import COCO

from beam_pipelines.contract.labels import BUILTIN_TABLES, IGNORE, Label, LabelTable
from beam_pipelines.inputs.coco import read_coco
from beam_pipelines.inputs.cvat import read_cvat
from beam_pipelines.inputs.regions import Ellipse, Region, RowRuns
from beam_pipelines.pixels import polygons
from beam_pipelines.pixels.polygons import limits
from beam_pipelines.pixels.polygons.regions import mask_of
from beam_pipelines.rejects import BadInputError

SIZE = (48, 64)


def table_of(*names: str, ignored: tuple[str, ...] = (), **options: bool) -> LabelTable:
    """Names without ids: polygons need none."""
    train_ids = {name: train_id for train_id, name in enumerate(names)} | dict.fromkeys(ignored, IGNORE)
    rows = [
        Label(name=name, source_ids=(), train_id=train_id, color=None, category=name)
        for name, train_id in train_ids.items()
    ]
    return LabelTable(name="test", labels=tuple(rows), **options)


TABLE = table_of("background", "road", "car", "sky", ignored=("void",))


def shape(label: str, points: Any, kind: str | None = "polygon", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}, **more}


def labelme(*shapes: Any, size: tuple[Any, Any] = SIZE) -> bytes:
    """A file as Labelme writes it."""
    head = {"version": "5.4.1", "flags": {}}
    tail = {"imagePath": "a.jpg", "imageData": "QUJD" * 1000, "imageHeight": size[0], "imageWidth": size[1]}
    return json.dumps({**head, "shapes": shapes, **tail}, indent=2).encode()


def regions(*found: Any, size: tuple[Any, Any] = SIZE) -> bytes:
    return json.dumps({"height": size[0], "width": size[1], "regions": found}).encode()


def drawn(document: bytes, table: LabelTable = TABLE, size: tuple[int, int] = SIZE) -> np.ndarray:
    return polygons.draw(document, table, size)


def cvat_mask(shapes: str) -> np.ndarray:
    image = f'<image id="0" name="a.png" width="{SIZE[1]}" height="{SIZE[0]}">{shapes}</image>'
    text = f'<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version>{image}</annotations>'
    ((_, _, document),) = read_cvat(io.BytesIO(text.encode()), "annotations.xml")
    return drawn(document)


def refusal(document: bytes, table: LabelTable = TABLE) -> str:
    with pytest.raises(BadInputError) as refused:
        drawn(document, table)
    return f"{refused.value.reason}: {refused.value.detail}"


# --- an independent rasterizer: the pixels whose center is inside, and how far centers are from the edges


def contains_centers(polygon: np.ndarray) -> np.ndarray:
    """bool[H, W]: by the number of edges to the right of each pixel's center."""
    x, y = np.arange(SIZE[1]) + 0.5, (np.arange(SIZE[0]) + 0.5)[:, None]
    inside = np.zeros(SIZE, bool)
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if y0 != y1:
            inside ^= ((y0 > y) != (y1 > y)) & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    return inside


def distances(polygon: np.ndarray) -> np.ndarray:
    """float[H, W]: from each pixel's center to the nearest edge."""
    centers = np.stack(np.meshgrid(np.arange(SIZE[1]) + 0.5, np.arange(SIZE[0]) + 0.5), axis=-1)
    nearest = np.full(SIZE, np.inf)
    for start, end in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        edge = end - start
        along = np.clip((centers - start) @ edge / max(edge @ edge, 1e-9), 0, 1)
        nearest = np.minimum(nearest, np.linalg.norm(centers - start - along[..., None] * edge, axis=-1))
    return nearest


def random_polygon(seed: int) -> np.ndarray:
    """float[n, 2]: around a center, partly outside the image, with two decimals as tools write them."""
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * math.pi, rng.integers(3, 15)))
    radius = rng.uniform(4, 26) * rng.uniform(0.5, 1, angles.size)
    center = rng.uniform(0, 1, 2) * SIZE[::-1]
    return (center + np.stack([np.cos(angles), np.sin(angles)], axis=-1) * radius[:, None]).round(2)


def as_coco(polygon: np.ndarray) -> np.ndarray:
    return drawn(regions({"label": "car", "segmentation": [polygon.reshape(-1).tolist()]}))


def as_labelme(polygon: np.ndarray) -> np.ndarray:
    return drawn(labelme(shape("car", polygon.tolist())))


def as_cvat(polygon: np.ndarray) -> np.ndarray:
    points = ";".join(f"{x:.2f},{y:.2f}" for x, y in polygon)
    return cvat_mask(f'<polygon label="car" source="manual" occluded="0" points="{points}" z_order="0"></polygon>')


# COCO and CVAT: pycocotools takes a boundary pixel by a fifth of a pixel. Labelme: Pillow cuts coordinates to whole
# pixels, and fills every pixel that the outline touches, so its regions are larger.
@pytest.mark.parametrize(
    ("draw", "reach", "share"), [(as_coco, 0.2, 0.02), (as_cvat, 0.2, 0.02), (as_labelme, 1.0, 0.1)]
)
def test_polygons_differ_from_their_centers_only_at_the_edges(draw, reach: float, share: float) -> None:
    differing = covered = 0
    for seed in range(40):
        polygon = random_polygon(seed)
        expected = contains_centers(polygon)
        different = (draw(polygon) == TABLE.labels[2].train_id) != expected
        assert not different[distances(polygon) > reach].any(), seed
        differing, covered = differing + int(different.sum()), covered + int(expected.sum())
    assert differing < share * covered, differing / covered


def test_labelme_polygons_are_those_of_pillow_and_hold_their_edges() -> None:
    mask = as_labelme(np.array([[10, 10], [20, 10], [20, 20], [10, 20]]))
    assert np.argwhere(mask == 2).min(axis=0).tolist() == [10, 10]
    assert np.argwhere(mask == 2).max(axis=0).tolist() == [20, 20]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools' own decoder
def test_a_file_of_coco_is_drawn_as_pycocotools_draws_it(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(5)
    crowd = rng.random(SIZE) < 0.3
    compressed = coco.encode(np.asfortranarray(rng.random(SIZE) < 0.1))
    counts = np.diff(np.flatnonzero(np.diff(crowd.ravel(order="F"), prepend=False, append=~crowd[-1, -1])), prepend=0)
    segmentations = [
        {"size": [*SIZE], "counts": counts.tolist()},
        *([random_polygon(seed).reshape(-1).tolist() for seed in (seed, seed + 50)] for seed in range(8)),
        {"size": [*SIZE], "counts": compressed["counts"].decode()},
    ]
    found: dict[str, Any] = {
        "images": [{"id": 7, "file_name": "a.jpg", "height": SIZE[0], "width": SIZE[1]}],
        "categories": [{"id": 3, "name": "car"}, {"id": 9, "name": "sky"}],
        "annotations": [
            {
                "id": index,
                "image_id": 7,
                "category_id": (3, 9)[index % 2],
                "segmentation": each,
                "iscrowd": int(not index),
            }
            for index, each in enumerate(segmentations)
        ],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(found, indent=1))
    own = COCO(str(path))
    expected = np.zeros(SIZE, np.uint8)
    for annotation in found["annotations"]:
        expected[own.annToMask(annotation) > 0] = {3: 2, 9: 3}[annotation["category_id"]]
    ((name, _, document),) = read_coco(path.read_bytes(), "instances.json")
    assert name == "a.jpg"
    assert b"\n" not in document
    assert np.array_equal(drawn(document), expected)
    assert len(np.unique(expected)) == 3
    capsys.readouterr()


masks = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@given(masks, st.sampled_from([0.0, 0.02, 0.5, 0.98, 1.0]))
def test_rle_of_coco_is_exact(rng, density: float) -> None:
    mask = rng.random(SIZE) < density
    text = coco.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()
    found = drawn(regions({"label": "car", "segmentation": {"size": [*SIZE], "counts": text}}))
    assert np.array_equal(found == 2, mask)


@given(masks, st.tuples(st.integers(-9, 60), st.integers(-9, 70)), st.tuples(st.integers(1, 48), st.integers(1, 64)))
def test_masks_of_cvat_are_exact_and_clipped(rng, place: tuple[int, int], size: tuple[int, int]) -> None:
    (top, left), mask = place, rng.random(size) < 0.5
    flat = mask.ravel()
    runs = np.diff(np.flatnonzero(np.diff(flat, prepend=False, append=~flat[-1])), prepend=0)
    text = ", ".join(map(str, runs))
    found = cvat_mask(
        f'<mask label="car" rle="{text}" left="{left}" top="{top}" width="{size[1]}" height="{size[0]}"/>'
    )
    large = np.zeros((200, 200), bool)
    large[50 + top : 50 + top + size[0], 50 + left : 50 + left + size[1]] = mask
    assert np.array_equal(found == 2, large[50 : 50 + SIZE[0], 50 : 50 + SIZE[1]])


def test_ellipses_and_rotated_boxes_of_cvat() -> None:
    x, y = np.meshgrid(np.arange(SIZE[1]) + 0.5, np.arange(SIZE[0]) + 0.5)
    upright = cvat_mask('<ellipse label="car" cx="32.00" cy="20.00" rx="20.00" ry="8.00" z_order="0"/>') == 2
    assert np.array_equal(upright, ((x - 32) / 20) ** 2 + ((y - 20) / 8) ** 2 <= 1)
    quarter = cvat_mask('<ellipse label="car" cx="32" cy="20" rx="8" ry="20" rotation="90.00"/>') == 2
    assert np.array_equal(quarter, upright)
    steep = cvat_mask('<ellipse label="car" cx="32" cy="24" rx="20" ry="2" rotation="30"/>') == 2
    assert steep[24 + 8, 32 + 14], "clockwise: the right end goes down"
    assert not steep[24 - 8, 32 + 14]
    box = cvat_mask('<box label="car" xtl="10.00" ytl="10.00" xbr="30.00" ybr="20.00"/>') == 2
    assert np.array_equal(box, (x > 10) & (x < 30) & (y > 10) & (y < 20))
    thin = cvat_mask('<ellipse label="car" cx="32.5" cy="20.5" rx="1e-300" ry="9"/>')
    assert (thin == 0).all()
    turned = cvat_mask('<box label="car" xtl="15" ytl="5" xbr="25" ybr="25" rotation="90"/>') == 2
    assert np.array_equal(turned, box)


def test_circles_rectangles_and_lines_of_labelme() -> None:
    mask = drawn(labelme(shape("car", [[30, 20], [30, 30]], "circle"), shape("sky", [[9, 40], [3, 35]], "rectangle")))
    assert (mask == 3).sum() == 7 * 6
    assert abs((mask == 2).sum() - math.pi * 10.5**2) < 20
    lines: list[Any] = [([[5, 24], [60, 24]], "line"), ([[5, 5], [60, 5], [60, 40]], "linestrip")]
    for points, kind in lines:
        thick = drawn(labelme(shape("car", points, kind))) == 2
        assert thick[:, 30].sum() == limits.LINE_WIDTH
    assert (drawn(labelme(shape("car", [[5, 5]], "point"))) == 0).all(), "a point has no area"


def test_a_mask_of_labelme_is_put_into_its_box() -> None:
    pixels = np.random.default_rng(0).random((4, 6)) < 0.5
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    text = base64.b64encode(file.getvalue()).decode()
    mask = drawn(labelme(shape("car", [[10.0, 20.0], [15.0, 23.0]], "mask", mask=text))) == 2
    assert np.array_equal(mask[20:24, 10:16], pixels)
    assert mask.sum() == pixels.sum()
    assert "of the size of its box" in refusal(labelme(shape("car", [[10, 20], [16, 23]], "mask", mask=text)))
    for broken in (None, "no base64!", text[:40], base64.b64encode(b"GIF89a").decode()):
        assert refusal(labelme(shape("car", [[10, 20], [15, 23]], "mask", mask=broken))).startswith("bad_polygons")


# --- order, edges of the image, names


def box(label: str, *corners: float) -> dict[str, Any]:
    left, top, right, bottom = corners
    return {"label": label, "segmentation": [[left, top, right, top, right, bottom, left, bottom]]}


def test_later_regions_cover_earlier_ones() -> None:
    mask = drawn(regions(box("road", 0, 0, 20, 20), box("car", 10, 10, 30, 30), box("void", 25, 25, 40, 40)))
    assert [mask[5, 5], mask[15, 15], mask[27, 27], mask[45, 60]] == [1, 2, IGNORE, 0]
    one, other = shape("road", [[0, 0], [20, 20]], "rectangle"), shape("car", [[10, 10], [30, 30]], "rectangle")
    assert drawn(labelme(one, other))[15, 15] == 2
    assert drawn(labelme(other, one))[15, 15] == 1


def test_cvat_draws_by_z_order_then_as_in_the_file() -> None:
    boxes = [
        f'<box label="{label}" xtl="{left}" ytl="0" xbr="{left + 20}" ybr="20" z_order="{z}"/>'
        for label, left, z in (("car", 0, 2), ("road", 10, 0), ("sky", 15, 0), ("void", 18, -1))
    ]
    assert cvat_mask("".join(boxes))[5, [5, 12, 17, 19, 33, 36]].tolist() == [2, 2, 2, 2, 3, IGNORE]


def test_what_is_outside_the_image_is_clipped() -> None:
    assert np.argwhere(drawn(regions(box("car", -30, -9, 5, 7))) == 2).max(axis=0).tolist() == [6, 4]
    assert (drawn(regions(box("car", -90, -90, 900, 900))) == 2).all()
    assert (drawn(regions(box("car", 70, 70, 90, 90))) == 0).all()
    assert (drawn(labelme(shape("car", [[-30, -9], [5, 7]], "rectangle"))) == 2).sum() == 8 * 6


def test_names_that_the_table_lacks_are_told_with_their_counts() -> None:
    document = regions(box("tree", 0, 0, 9, 9), box("Car", 0, 0, 9, 9), box("tree", 0, 0, 9, 9))
    assert refusal(document) == "unknown_labels: 2 labels are not in table test: 'tree' (2), 'Car' (1)"
    ignoring = drawn(document, table_of("background", ignore_rest=True))
    assert np.unique(ignoring).tolist() == [0, IGNORE]
    assert drawn(labelme(shape("__ignore__", [[0, 0], [9, 9]], "rectangle")))[5, 5] == IGNORE


def test_pixels_outside_all_regions_are_background_or_ignored() -> None:
    for name in polygons.BACKGROUND:
        assert (drawn(regions(), table_of("road", name)) == 1).all()
    assert (drawn(regions(), table_of("road")) == IGNORE).all()
    assert (drawn(regions(), BUILTIN_TABLES["cityscapes19"]()) == IGNORE).all()


def test_the_size_is_that_of_the_image_where_the_document_has_none() -> None:
    assert (drawn(labelme(shape("car", [[0, 0], [63, 47]], "rectangle"), size=(None, None))) == 2).all()
    assert refusal(labelme(size=(48, 63))).startswith("size_mismatch: the image is 48x64 and the mask 48x63")


def test_what_a_document_is_not_is_told_of_the_format_that_it_seems_to_be() -> None:
    assert refusal(b"{}").startswith("bad_polygons: it is not Labelme's JSON: ")
    assert refusal(regions({"label": "car", "segmentation": 1})).startswith("bad_polygons: a region is not as COCO has")


def test_a_document_is_told_from_an_image_by_its_beginning() -> None:
    with_mark = b"\xef\xbb\xbf" + labelme(shape("car", [[0, 0], [63, 47]], "rectangle"))
    assert (drawn(with_mark) == 2).all()
    for data, expected in ((with_mark, True), (b" \r\n{}", True), (b"\x89PNG\r\n\x1a\n", False), (b"[{}]", False)):
        assert polygons.is_document(data) == expected


# --- hostile documents


def runs(counts: Any, size: Any = SIZE) -> dict[str, Any]:
    return {"label": "car", "segmentation": {"size": [*size], "counts": counts}}


HUGE = np.stack([np.tile([0.0, 40.0], 50_000), np.arange(100_000) % 40], axis=-1).reshape(-1).tolist()
HOSTILE = {
    "cut off": regions(box("car", 0, 0, 9, 9))[:-9],
    "no regions": b"{}",
    "not a number": b'{"shapes": [{"label": "car", "points": [[NaN, 1], [2, 3], [4, 5]]}]}',
    "infinite": b'{"height": 48, "width": 64, "regions": [{"label": "car", "segmentation": [[1e999, 1, 2, 3, 4, 5]]}]}',
    "far": regions(box("car", 0, 0, 1e9, 9)),
    "far line": labelme(shape("car", [[0, 0], [1e300, 5]], "line")),
    "deep": b'{"shapes": ' + b"[" * 100_000,
    "deep elsewhere": b'{"flags": ' + b"[" * 100_000,
    "bytes": b'{"shapes": [{"label": "\xff\xfe", "points": []}]}',
    "odd": regions({"label": "car", "segmentation": [[1, 2, 3, 4, 5, 6, 7]]}),
    "long outline": regions({"label": "car", "segmentation": [HUGE]}),
    "many points": regions({"label": "car", "segmentation": [[1.0] * 200_002]}),
    "many regions": regions(*[{"label": "car", "line": [1, 2]}] * 10_001),
    "cut RLE": regions(runs("PPYo")),
    "RLE of other characters": regions(runs("~~~\N{BULLET}")),
    "RLE of an endless number": regions(runs("o" * 40 + "0")),
    "short RLE": regions(runs([100, 5])),
    "long RLE": regions(runs([2**31 - 1] * 4)),
    "negative RLE": regions(runs([-5, SIZE[0] * SIZE[1] + 5])),
    "RLE of another size": regions(runs([12], (3, 4))),
    "large mask": regions({"label": "car", "rows": {"counts": [9], "left": 0, "top": 0, "width": 9999, "height": 9}}),
    "problem": regions({"label": "car", "problem": "a cuboid can't be drawn"}),
    "unknown shape": labelme(shape("car", [[0, 0], [5, 5]], "cuboid")),
    "rectangle of one point": labelme(shape("car", [[0, 0]], "rectangle")),
    "large circle": labelme(
        shape("car", [[0, 0], [9999, 9999]], "circle"), shape("car", [[-9999, 0], [9999, 0]], "circle")
    ),
    "text": labelme({"label": "car", "points": "1,2;3,4"}),
    "no label": labelme({"points": [[1, 2]]}),
}


@pytest.mark.parametrize("document", HOSTILE.values(), ids=HOSTILE)
def test_a_document_that_can_t_be_drawn_is_rejected(document: bytes) -> None:
    assert refusal(document).startswith("bad_polygons: ")


def png_of(height: int, width: int) -> str:
    file = io.BytesIO()
    Image.new("1", (width, height), 1).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


LARGE = (1024, 2048)
WHOLE = {"left": 0, "top": 0, "width": LARGE[1], "height": LARGE[0]}
WIDE = [[(-8000, 8000)[place % 2], place] for place in range(100)]  # 1.6 million pixels of outline
WIDE_FLAT = [float(value) for point in WIDE for value in point]
# Documents of little text that would take a worker a long time, or much memory: what is said of each.
COSTLY: dict[str, tuple[Callable[[], bytes], str]] = {
    "a mask larger than the image": (
        lambda: labelme(shape("car", [[0, 0], [2048, 9]], "mask", mask=png_of(10, 2049)), size=LARGE),
        "larger than the image",
    ),
    "points": (
        lambda: json.dumps({"shapes": [shape("car", [[i % 20, i % 1024] for i in range(45_000)])]}).encode(),
        "points times rows",
    ),
    "outlines of Labelme": (lambda: labelme(*[shape("car", WIDE)] * 9, size=LARGE), "pixels of outlines"),
    "circles": (
        lambda: labelme(*[shape("car", [[0, 0], [8000, 8000]], "circle")] * 200, size=LARGE),
        "pixels of outlines",
    ),
    "outlines of COCO": (
        lambda: regions({"label": "car", "segmentation": [WIDE_FLAT] * 9}, size=LARGE),
        "pixels of outlines",
    ),
    "parts": (
        lambda: regions({"label": "car", "segmentation": [[1, 1, 2, 2, 1, 2]] * 10_001}, size=LARGE),
        "10,001 outlines",
    ),
    "RLE of long text": (lambda: regions(runs("1" * 30_000)), "runs or more of 3,072 pixels; at most 3,073"),
    "RLE of many numbers": (lambda: regions(runs([0] * 3_074)), "3,074 runs"),
    "rows of many numbers": (
        lambda: regions({"label": "car", "rows": {"counts": [0] * 9, "left": 0, "top": 0, "width": 2, "height": 3}}),
        "9 runs",
    ),
}


@pytest.mark.parametrize(("document", "said"), COSTLY.values(), ids=COSTLY)
def test_a_document_that_would_take_long_is_rejected(document: Callable[[], bytes], said: str) -> None:
    data = document()
    size = SIZE if b'"height": 48' in data else LARGE
    with pytest.raises(BadInputError, match=f"bad_polygons.*{said}"):
        polygons.draw(data, TABLE, size)


def test_the_pixels_of_all_regions_are_bounded_and_more_of_a_large_image_are_possible() -> None:
    ellipse = Region("car", ellipse=Ellipse(1024, 512, 1024, 512))
    rows = Region("car", rows=RowRuns([LARGE[0] * LARGE[1]], **WHOLE))
    for region in (ellipse, rows):
        mask_of(region, limits.Work(LARGE))
        work = limits.Work(LARGE)
        work.add(limits.PIXELS, 2_999_999_999)
        with pytest.raises(BadInputError, match="pixels to draw or more; at most 3,000,000,000 are possible"):
            mask_of(region, work)
    limits.Work((10_000, 10_000)).add(limits.PIXELS, 15_000_000_000)


def test_an_image_with_many_detailed_regions_is_far_inside_the_bounds() -> None:
    """Ten times 300 outlines of 500 points, each in a quarter of the image's rows, or as many ellipses."""
    work, angles = limits.Work(LARGE), np.linspace(0, 2 * np.pi, 500)
    points = np.stack([1000 + 120 * np.cos(angles), 500 + 120 * np.sin(angles)], axis=-1)
    rows, columns = limits.box_of(limits.outline(points.tolist(), "car", work), LARGE)
    assert (rows, columns) == (241, 241)
    for what, amount in (
        (limits.OUTLINES, 1),
        (limits.LENGTH, 754),
        (limits.STEPS, 500 * (rows + 500)),
        (limits.PIXELS, 9 * rows * columns),
    ):
        work.add(what, 10 * 300 * amount)


BROKEN = {
    "cuboid": '<cuboid label="car" xtl1="1"/>',
    "half a point": '<polygon label="car" points="1,2;3"/>',
    "not a number": '<box label="car" xtl="nan" ytl="0" xbr="1" ybr="1"/>',
    "infinite": '<ellipse label="car" cx="1e999" cy="0" rx="1" ry="1"/>',
    "no box": '<mask label="car" rle="1,2"/>',
}


@pytest.mark.parametrize("shapes", BROKEN.values(), ids=BROKEN)
def test_a_shape_of_cvat_that_can_t_be_drawn_rejects_its_image(shapes: str) -> None:
    with pytest.raises(BadInputError, match=r"bad_polygons.*'car' can't be drawn"):
        cvat_mask(shapes)


numbers = st.one_of(
    st.integers(-(10**6), 10**6), st.floats(allow_nan=False, allow_infinity=False), st.integers(-99, 99)
)
flat = st.lists(numbers, max_size=14)
segmentation = st.one_of(
    st.lists(flat, max_size=3),
    st.fixed_dictionaries(
        {"size": st.just([*SIZE]), "counts": st.text(st.characters(min_codepoint=48, max_codepoint=111))}
    ),
    st.fixed_dictionaries({"size": st.just([*SIZE]), "counts": st.lists(st.integers(0, 4000))}),
)
region = st.fixed_dictionaries(
    {"label": st.sampled_from(["car", "road", "void"])},
    optional={
        "segmentation": segmentation,
        "ellipse": st.fixed_dictionaries(dict.fromkeys(("cx", "cy", "rx", "ry", "rotation"), numbers)),
        "line": flat,
    },
)
shapes = st.builds(
    shape,
    st.sampled_from(["car", "road", "void"]),
    st.lists(st.tuples(numbers, numbers), max_size=6),
    st.sampled_from(["polygon", "rectangle", "circle", "line", "linestrip", "oriented_rectangle", None]),
)
documents = st.lists(region, max_size=4).map(lambda found: regions(*found)) | st.lists(shapes, max_size=4).map(
    lambda found: labelme(*found)
)


def reason_or_mask(document: bytes) -> str | np.ndarray:
    try:
        return drawn(document)
    except BadInputError as refused:
        return refused.reason


@settings(max_examples=100, deadline=None)
@given(documents, st.integers(0, 4000), st.binary(max_size=3))
def test_any_document_gives_train_ids_or_is_rejected(document: bytes, place: int, damage: bytes) -> None:
    for data in (document, document[:place] + damage + document[place + 1 :]):
        found = reason_or_mask(data)
        if isinstance(found, str):
            assert found in ("bad_polygons", "unknown_labels", "size_mismatch")
        else:
            assert (found.shape, found.dtype) == (SIZE, np.uint8)
            assert set(np.unique(found).tolist()) <= {0, 1, 2, IGNORE}

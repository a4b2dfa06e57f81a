"""The card in a real browser: it shows all that it says, asks no network, and takes names for text."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from beam_pipelines.card.__main__ import main as card
from beam_pipelines.card.page import _recipe as recipe_lines
from tests.support import browser as browsers
from tests.support.builds import build, make_flat, make_uneven, no_transform

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

SCRIPT = "<script>alert(1)</script>"  # as the name of a file it is a folder with a file
MARKUP = "<img src=x onerror=alert(1)>"
NAMES = [
    "sky",
    MARKUP,
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "person",
    "long name " * 15 + "x" * 150,
]
NEVER = "never & nowhere"  # a class without a pixel


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_uneven(tmp_path_factory.mktemp("in"), train=9, val=3)
    for kind, suffix in (("images", "train_0000.png"), ("masks", "train_0000.png")):
        target = folder / kind / "train" / f"{SCRIPT}.png"
        target.parent.mkdir()
        shutil.move(folder / kind / "train" / suffix, target)
        shutil.copy(folder / kind / "train" / "train_0003.png", folder / kind / "val" / "val_copy.png")
    image = folder / "images" / "train" / "train_0001.png"
    image.write_bytes(image.read_bytes()[:900])  # truncated
    Image.fromarray(np.full((32, 64), 77, np.uint8)).save(folder / "masks" / "train" / "train_0002.png")
    lines = [f"  - {{name: '{name}', ids: [{number}]}}\n" for number, name in enumerate(NAMES)]
    lines.append(f"  - {{name: '{NEVER}', ids: [12]}}\n")
    (folder / "labels.yaml").write_text(f"classes:\n{''.join(lines)}ignore:\n  - {{name: void, ids: [11]}}\n")
    return folder


@pytest.fixture(scope="module")
def page(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The card of a data set with strange names, rejected pairs and a duplicate."""
    output = tmp_path_factory.mktemp("out")
    with no_transform():
        arguments = (f"--input={source}", f"--labels={source / 'labels.yaml'}", "--image_size=native")
        assert build(*arguments, f"--output={output}", "--max_rejects=50%") == 0
    return output / "card" / "index.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    with browsers.started() as found:
        yield found


def count(browser: Chrome, selector: str) -> int:
    return browser.execute_script("return document.querySelectorAll(arguments[0]).length", selector)


def style(browser: Chrome, selector: str, name: str) -> str:
    return browser.execute_script(
        "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]", selector, name
    )


def press(browser: Chrome, key: str) -> None:
    from selenium.webdriver import ActionChains

    ActionChains(browser).send_keys(key).perform()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_loads_nothing_and_complains_of_nothing(browser: Chrome, page: Path, scheme: str) -> None:
    browsers.requests(browser)
    browsers.show(browser, page, scheme=scheme)
    assert browsers.requests(browser) == [page.as_uri()]
    assert browsers.complaints(browser) == []


def test_the_probes_of_requests_and_complaints_can_fail(browser: Chrome, tmp_path: Path) -> None:
    other = tmp_path / "other.html"
    other.write_text("<img src='missing.png'><script>console.error('mine')</script>")
    browsers.show(browser, other)
    assert (tmp_path / "missing.png").as_uri() in browsers.requests(browser)
    assert "mine" in "".join(browsers.complaints(browser))


def test_every_picture_and_chart_is_drawn(browser: Chrome, page: Path) -> None:
    browsers.show(browser, page)
    blank = "return [...document.images].filter((each) => each.getAttribute('src') && !each.naturalWidth).length"
    assert browser.execute_script(blank) == 0
    assert count(browser, "figure.sample .photo") == 8 + 4 + 3 * 4  # of both splits, and of three classes
    assert count(browser, ".places img") == 11
    assert count(browser, ".thumbnails img") == 1
    assert count(browser, ".pair img") == 2
    drawn = """return [...document.querySelectorAll("canvas")].filter((canvas) => {
        const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        return Chart.getChart(canvas) && pixels.some((value) => value);
    }).length"""
    assert browser.execute_script(drawn) == count(browser, "canvas") == 7
    assert count(browser, "figure.chart details table") == 7


def test_names_are_text(browser: Chrome, page: Path) -> None:
    browsers.show(browser, page)
    text = browser.execute_script("return document.body.textContent")
    assert f"images/train/{SCRIPT}.png" in text
    assert MARKUP in text
    assert count(browser, "img[src=x]") == 0
    assert count(browser, "script:not([type])") == 3
    assert browser.title.startswith("Data set card")  # an open alert would raise


def test_a_class_that_never_occurs_is_named_and_in_the_table(browser: Chrome, page: Path) -> None:
    browsers.show(browser, page)
    text = browser.execute_script("return document.getElementById('classes').innerText")
    assert f"In no image: {NEVER}." in text
    assert f"\n{NEVER}\t0\t0%\t0\t0%\t0\t0%\t0\t0%\n" in text


@pytest.mark.parametrize("width", [390, 1280])
def test_a_long_name_leaves_the_numbers_in_sight(browser: Chrome, page: Path, width: int) -> None:
    browsers.show(browser, page, width=width)
    browser.execute_script("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    cells = "tbody th + td.number, .matrix tbody th + td, #provenance details td:last-child"
    ends = "return [...document.querySelectorAll(arguments[0])].map((each) => each.getBoundingClientRect().right)"
    assert max(browser.execute_script(ends, cells)) <= width
    heads = "return [...document.querySelectorAll('.matrix thead span')].map((each) => each.clientHeight)"
    assert max(browser.execute_script(heads)) <= 9 * 16
    assert count(browser, f".matrix span[title='{NAMES[-1].strip()}']") == 2


def test_the_recipe_is_text_without_escapes() -> None:
    recipe = {"image_size": [180, 240], "split_names": ["a & b", "<é>"], "seed": 0, "shards": {}, "layout": None}
    assert recipe_lines(recipe) == [
        ("image_size (height, width)", "[180, 240]"),
        ("split_names", '["a & b", "<é>"]'),
        ("seed", "0"),
    ]


def test_it_tells_what_was_rejected_and_why(browser: Chrome, page: Path) -> None:
    browsers.show(browser, page)
    text = browser.execute_script("return document.getElementById('rejected').innerText")
    assert "2 pairs" in text
    assert "truncated 1 pair: the file ends too early" in text
    assert "unknown_ids 1 pair" in text
    assert "Without an image that can be read: 1 of 1." in text


def test_the_manifest_counts_what_was_rejected_and_the_list_only_has_its_pictures(page: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    shutil.copytree(page.parents[1], output)
    (output / "rejected.jsonl").unlink()
    assert card([str(output)]) == 0
    text = (output / "card" / "index.html").read_text()
    assert "<p>2 pairs; <code>rejected.jsonl</code>" in text
    assert '<h3>truncated <span class="quiet">1 pair: the file ends too early</span></h3>' in text
    assert "Image of train/train_0002" not in text
    assert "Image of train/train_0002" in page.read_text()


def page_of_one_class(folder: Path, val: int) -> str:
    """The page of a data set of one image in train and `val` in val, which one class fills."""
    source, output = make_flat(folder / "in", train=1, val=val), folder / "out"
    (source / "labels.yaml").write_text(f"classes:\n  - {{name: all, ids: {[*range(12)]}}}\n")
    arguments = (f"--input={source}", f"--labels={source / 'labels.yaml'}", "--image_size=native")
    with no_transform():
        assert build(*arguments, f"--output={output}") == 0
    return (output / "card" / "index.html").read_text()


def test_one_image_of_one_class_is_singular(tmp_path: Path) -> None:
    text = page_of_one_class(tmp_path, val=0)
    assert "<h1>1 image with a mask of 1 class</h1>" in text
    assert "<dd>1<small>image</small></dd>" in text
    assert "2,048 pixels in 1 image<" in text
    assert "<p>The image file has 64 \N{MULTIPLICATION SIGN} 32 pixels.</p>" in text


def test_splits_that_are_equal_are_said_to_be(tmp_path: Path) -> None:
    text = page_of_one_class(tmp_path, val=1)
    assert "<p>Every class has the same share of the pixels in train and in val.</p>" in text
    assert "distance" not in text.partition("<script>")[0].partition('id="classes"')[2]


def test_it_shows_duplicates(browser: Chrome, page: Path) -> None:
    browsers.show(browser, page)
    text = browser.execute_script("return document.getElementById('duplicates').innerText")
    assert "1 pair of images" in text
    assert "across train and val" in text
    assert "exact\ntrain: images/train/train_0003.png\nval: images/val/val_copy.png" in text


@pytest.mark.parametrize("width", [360, 390, 768, 1280])
def test_no_width_scrolls_sideways(browser: Chrome, page: Path, width: int) -> None:
    browsers.show(browser, page, width=width, height=800)
    browser.execute_script("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    root = "const root = document.documentElement; return root.scrollWidth - root.clientWidth"
    assert browser.execute_script(root) == 0
    right = """const parts = [...document.querySelectorAll("main > section > *")];
    return Math.max(...parts.map((each) => each.getBoundingClientRect().right))"""
    assert browser.execute_script(right) <= width


def test_keys_and_slider_change_how_much_of_the_masks_is_seen(browser: Chrome, page: Path) -> None:
    browsers.show(browser, page)
    seen = {}
    for key in ("1", "2", "3"):
        press(browser, key)
        seen[key] = style(browser, ".sample .mask", "opacity")
    assert seen == {"1": "0", "2": "0.45", "3": "1"}
    slide = "const e = document.getElementById('opacity'); e.value = '0.2'; e.dispatchEvent(new Event('input'))"
    browser.execute_script(slide)
    assert style(browser, ".sample .mask", "opacity") == "0.2"
    assert count(browser, "input[name=layer]:checked") == 0
    browser.execute_script("document.querySelector('input[name=layer][value=\"1\"]').click()")
    assert style(browser, ".sample .mask", "opacity") == "1"


def test_a_picture_is_enlarged_by_keyboard_and_the_arrows_go_on(browser: Chrome, page: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    browsers.show(browser, page)
    browser.execute_script("document.querySelectorAll('.sample .stack')[1].focus()")
    press(browser, Keys.ENTER)
    captions = [caption(browser)]
    for key in (Keys.ARROW_RIGHT, Keys.ARROW_LEFT, Keys.ARROW_LEFT, Keys.ARROW_LEFT):
        press(browser, key)
        captions.append(caption(browser))
    shown = "return [...document.querySelectorAll('.sample figcaption')].map((each) => each.innerText)"
    names = browser.execute_script(shown)
    assert captions == [names[1], names[2], names[1], names[0], names[-1]]
    assert browser.execute_script("return document.querySelector('#viewer .photo').naturalWidth") > 0
    press(browser, Keys.ESCAPE)
    assert count(browser, "dialog[open]") == 0


def caption(browser: Chrome) -> str:
    assert count(browser, "dialog[open]") == 1
    return browser.execute_script("return document.querySelector('#viewer .caption').innerText")


CONTRASTS = """
function luminance(color) {
  const parts = color.match(/[\\d.]+/g).slice(0, 3).map((value) => value / 255);
  const [r, g, b] = parts.map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
const page = luminance(getComputedStyle(document.body).backgroundColor);
return arguments[0].map((selector) => {
  const text = luminance(getComputedStyle(document.querySelector(selector)).color);
  return (Math.max(text, page) + 0.05) / (Math.min(text, page) + 0.05);
});
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_of_wcag_in_both_schemes(browser: Chrome, page: Path, scheme: str) -> None:
    """WCAG 2.2, success criterion 1.4.3: 4.5 to 1."""
    browsers.show(browser, page, scheme=scheme)
    assert min(browser.execute_script(CONTRASTS, ["body", ".quiet", "nav a", "summary", ".notable"])) >= 4.5
    background = style(browser, "body", "backgroundColor")
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}[scheme]
    axis = browser.execute_script("return Chart.getChart(document.querySelector('canvas')).options.color")
    assert axis == {"light": "#57606a", "dark": "#a5aeb8"}[scheme]


def test_what_is_seen_has_words(browser: Chrome, page: Path) -> None:
    browsers.show(browser, page)
    assert count(browser, "img:not([alt])") == count(browser, "canvas:not([aria-label])") == 0
    assert count(browser, "main img[alt='']") == 0
    assert count(browser, "h1") == 1
    anchors = "return [...document.querySelectorAll('nav a')].filter((a) => !document.querySelector(a.hash)).length"
    assert browser.execute_script(anchors) == 0
    assert count(browser, "nav a") == count(browser, "main > section") == 11

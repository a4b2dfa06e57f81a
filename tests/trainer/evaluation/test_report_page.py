"""The page of a report in a real browser: it shows all, asks no network, fits, and takes names for text."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pytest
import tensorflow as tf

from tests.support import browser as browsers
from tests.support.color_model import describe, make_color_model
from tests.support.handmade import write_samples
from tests.support.swapped import CAMVID, FENCE, SIZE, SKY, Faults, draw_scene
from trainer.data.dataset import Split, open_split
from trainer.evaluation.evaluator import evaluate
from trainer.evaluation.page.values import render
from trainer.evaluation.report import FILES, write_report
from trainer.evaluation.reported import Report
from trainer.inference.model_file import Description

pytest.importorskip("jinja2", reason="jinja2 is not installed (extra `trainer`)")

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

MARKUP = "<img src=x onerror=alert(1)>.png"
SCENES = 20
FAULTS: Faults = {3: (FENCE, 12), 8: (SKY, 20)}
ROWS = [
    {"step": step, "epoch": step / 10, "split": split, "loss": 1 / step, "mean_iou": step / 10, "learning_rate": 0.01}
    for step in (2, 4, 6)
    for split in ("train", "val")
]


def make_split(folder: Path, faults: Faults) -> Split:
    samples = [draw_scene(number, faults, MARKUP if number == 8 else "") for number in range(SCENES)]
    return open_split(str(write_samples(folder, "raw_uint8", [samples], SIZE)), "train")


def make_report(split: Split, description: Description, **about: Any) -> Report:
    """By a model that knows the colors of the classes."""
    model = make_color_model(description)
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    evaluation = evaluate(model, split, batch=SCENES, strategy=strategy, description=description)
    values = {"rows": (), "config": {}} | about
    return Report(evaluation=evaluation, split=split, model=model, description=description, **values)


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    return make_split(tmp_path_factory.mktemp("data") / "scenes", FAULTS)


@pytest.fixture(scope="module")
def description() -> Description:
    return describe(labels=CAMVID, size=SIZE)


@pytest.fixture(scope="module")
def report(split: Split, description: Description) -> Report:
    config = {"identity": {"optimizer": MARKUP}, "config": {}}
    return make_report(split, description, rows=ROWS, config=config)


@pytest.fixture(scope="module")
def page(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "report-train"
    parts = {name: getattr(report, name) for name in ("description", "rows", "config")}
    write_report(str(folder), report.evaluation, report.split, report.model, **parts)
    return folder / "index.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    with browsers.started() as found:
        yield found


def text_of(browser: Chrome, selector: str) -> str:
    return browser.execute_script("return document.querySelector(arguments[0]).innerText", selector)


def press(browser: Chrome, key: str) -> None:
    from selenium.webdriver import ActionChains

    ActionChains(browser).send_keys(key).perform()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_it_draws_all_loads_nothing_and_fits(browser: Chrome, page: Path, width: int, scheme: str) -> None:
    browsers.requests(browser)
    browsers.show(browser, page, width=width, scheme=scheme)
    assert browsers.requests(browser) == [page.as_uri()]
    assert browsers.complaints(browser) == []
    blank = "return [...document.images].filter((each) => !each.naturalWidth || !each.alt).length"
    assert browser.execute_script(blank) == 0
    pictures = "return document.querySelectorAll('figure.sample .photo').length"
    assert browser.execute_script(pictures) == 6 + 3 + 3 + 2
    drawn = """return [...document.querySelectorAll("canvas")].filter((canvas) => {
        const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        return Chart.getChart(canvas) && pixels.some((value) => value);
    }).length"""
    assert browser.execute_script(drawn) == 2 + 1 + 2 + 3
    browser.execute_script("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    right = """const parts = [...document.querySelectorAll("main section > *")];
        return Math.max(...parts.map((each) => each.getBoundingClientRect().right))"""
    assert browser.execute_script(right) <= width


def test_names_are_text_and_links_lead_to_what_is_there(browser: Chrome, page: Path) -> None:
    browsers.show(browser, page)
    assert MARKUP in text_of(browser, "#suspects")
    assert MARKUP in browser.execute_script("return document.querySelector('#evaluated details').textContent")
    assert browser.execute_script("return document.querySelectorAll('img[src=x]').length") == 0
    links = browser.execute_script(
        "return [...document.querySelectorAll('#files a')].map((a) => a.getAttribute('href'))"
    )
    assert links == [name for name in FILES if name != "index.html"]
    assert all((page.parent / link).is_file() for link in links)
    targets = "return [...document.querySelectorAll('nav a')].filter((a) => !document.querySelector(a.hash)).length"
    assert browser.execute_script(targets) == 0


def test_suspected_label_errors_come_first_with_their_classes(browser: Chrome, page: Path) -> None:
    browsers.show(browser, page)
    captions = """return [...document.querySelectorAll("#suspects figcaption")].map((each) => each.innerText)"""
    first, second = (caption.splitlines() for caption in browser.execute_script(captions))
    assert (first[0], second[0]) == (MARKUP, "scene-03.png")
    assert first[1] == second[1] == "stands out"
    assert re.fullmatch("labeled sky, predicted building: 3[5-9][0-9] pixels", first[2])
    assert re.fullmatch("labeled fence, predicted building: 1[1-4][0-9] pixels", second[2])
    assert "2 stand out" in text_of(browser, "#suspects")


def test_keys_show_truth_prediction_and_errors(browser: Chrome, page: Path) -> None:
    browsers.show(browser, page)
    seen = """const stack = document.querySelector(arguments[0] + " .stack");
        const masks = [...stack.querySelectorAll(".mask")].filter((each) => getComputedStyle(each).display !== "none");
        return masks.map((each) => [each.dataset.layer, getComputedStyle(each).opacity])"""
    assert browser.execute_script(seen, "#images") == [["errors", "1"]]
    for key, expected in (("2", ["truth", "1"]), ("3", ["prediction", "1"]), ("1", ["prediction", "0"])):
        press(browser, key)
        assert browser.execute_script(seen, "#images") == [expected]
    slide = "const e = document.getElementById('opacity'); e.value = '0.3'; e.dispatchEvent(new Event('input'))"
    browser.execute_script(slide)
    press(browser, "\ue004")  # the tab key changes nothing
    assert browser.execute_script(seen, "#images") == [["prediction", "0.3"]]
    browser.execute_script("document.querySelectorAll('#suspects .stack')[1].click()")
    assert browser.execute_script(seen, "#viewer") == [["prediction", "0.3"]]
    assert text_of(browser, "#viewer .caption").startswith("scene-03.png")
    press(browser, "4")
    assert browser.execute_script(seen, "#viewer") == [["errors", "1"]]
    browser.execute_script("document.querySelector('#viewer [data-view=\"1\"]').click()")
    assert browser.execute_script(seen, "#viewer") == [["truth", "1"]]


def test_the_matrix_tells_pixels_by_mouse_and_keyboard(browser: Chrome, page: Path, split: Split) -> None:
    from selenium.webdriver.common.keys import Keys

    browsers.show(browser, page)
    assert " predicted as " in text_of(browser, ".readout"), "the largest confusion"
    browser.execute_script("document.querySelector('#matrix td[tabindex=\"0\"]').focus()")
    first = text_of(browser, ".readout")
    press(browser, Keys.ARROW_RIGHT)
    press(browser, Keys.ARROW_DOWN)
    second = text_of(browser, ".readout")
    browser.execute_script("document.querySelector('#matrix td').dispatchEvent(new Event('mouseenter'))")
    pixels = split.manifest.class_pixels["train"][1]
    assert first.startswith("sky predicted as sky: ")
    found = re.fullmatch(r"building predicted as building: ([\d.]+)% of building, ([\d,]+) pixels", second)
    assert found
    assert float(found[1]) == pytest.approx(100 * int(found[2].replace(",", "")) / pixels, abs=0.01)


def test_what_was_trained_on_is_no_evidence(report: Report) -> None:
    assert report.description is not None
    folder, trained = report.split.folder, replace(report.description, dataset=report.split.manifest.fingerprint)
    said = []
    for description, config in (
        (report.description, {}),
        (trained, {}),
        (trained, {"config": {"train_split": "another"}}),
        (report.description, {"config": {"train_split": "train", "other_datasets": [folder]}}),
    ):
        found = replace(report, description=description, config=config)
        said.append((found.was_trained_on, _warning(render(found, {}))))
    other, held_out, seen = "trained on other data", "not trained on this split", "trained on this split"
    assert said == [(None, other), (True, seen), (False, held_out), (True, seen)]


def _warning(page: str) -> str:
    return re.findall("The model was (.*?)[,.]", page.partition('id="suspects"')[2])[0]


def test_without_faults_no_image_is_listed(description: Description, tmp_path: Path) -> None:
    text = render(make_report(make_split(tmp_path, {}), description), {"learning_curves.png": "", "per_class.csv": ""})
    assert "<p>No image has such a region.</p>" in text
    assert "There is no metrics.jsonl beside the model" in text
    assert 'href="per_class.csv"' in text
    assert 'href="learning_curves.png"' not in text

"""The page of a comparison in a real browser: it draws its charts, asks no network, fits, and takes names for text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from beam_pipelines.contract.labels import BUILTIN_TABLES
from tests.support import browser as browsers
from tests.support.reports import confusions_of, write_run
from trainer.compare import main

pytest.importorskip("jinja2", reason="jinja2 is not installed (extra `trainer`)")

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

CAMVID = BUILTIN_TABLES["camvid11"]()
MARKUP = "<img src=x onerror=alert(1)>"
SCRIPT = "<script>alert(1)</script>"
NAMES = [f"{'long-name-' * 12}{SCRIPT}{number}.png" for number in range(30)]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs, one of which has a class less and another name than one would give it."""
    folder, generator = tmp_path_factory.mktemp("runs"), np.random.default_rng(0)
    for name, share in (("base", 0.7), (MARKUP, 0.8), ("worse", 0.6)):
        write_run(folder / name, CAMVID, confusions_of(generator, 30, 11, share), names=NAMES, optimizer=SCRIPT + name)
    assert main([f"{folder}/{name}" for name in ("base", MARKUP, "worse")]) == 0
    return folder / "comparison" / "index.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    with browsers.started() as found:
        yield found


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_it_draws_all_and_loads_nothing(browser: Chrome, page: Path, width: int, scheme: str) -> None:
    browsers.requests(browser)
    browsers.show(browser, page, width=width, scheme=scheme)
    assert browsers.requests(browser) == [page.as_uri()]
    assert browsers.complaints(browser) == []
    drawn = """return [...document.querySelectorAll("canvas")].filter((canvas) => {
        const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        return Chart.getChart(canvas) && pixels.some((value) => value);
    }).length"""
    assert browser.execute_script(drawn) == 5
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width, "nothing beside the screen"


def test_names_are_text(browser: Chrome, page: Path) -> None:
    browsers.show(browser, page)
    assert browser.execute_script("return document.images.length") == 0
    text = browser.execute_script("return document.body.innerText")
    assert MARKUP in text
    assert SCRIPT in text


def test_ticks_are_within_100_points_with_the_minus_of_the_tables(browser: Chrome, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for name, share in (("good", 1.0), ("bad", 0.0)):
        confusions = confusions_of(generator, 30, 11, share)
        if name == "bad":  # nothing correct
            confusions = np.roll(confusions * 0 + confusions.sum(2)[..., np.newaxis] * np.eye(11, dtype=int), 1, 2)
        write_run(tmp_path / name, CAMVID, confusions)
    assert main([f"{tmp_path}/good", f"{tmp_path}/bad"]) == 0
    browsers.show(browser, tmp_path / "comparison" / "index.html", width=390)
    ticks = """return Chart.getChart(document.querySelector("canvas")).scales.x.ticks.map((tick) => tick.label)"""
    labels = browser.execute_script(ticks)
    assert labels[0] == "\N{MINUS SIGN}100"
    tallest = """return Math.max(...[...document.querySelectorAll("#compared [aria-label=Models] tbody tr")].map(
        (row) => row.getBoundingClientRect().height))"""
    assert browser.execute_script(tallest) < 200, "pixels: the path of a report has a few lines"


def test_tips_tell_differences_and_intervals(browser: Chrome, page: Path) -> None:
    browsers.show(browser, page)
    tip = """const chart = Chart.getChart(document.querySelector("canvas"));
        const all = chart.data.datasets.map((_, set) => ({ datasetIndex: set, index: 0 }));
        chart.tooltip.setActiveElements(all, { x: 0, y: 0 });
        chart.update();
        return chart.tooltip.body.flatMap((each) => each.lines)"""
    difference, interval = browser.execute_script(tip)
    assert difference.startswith(" difference: +")
    assert interval.startswith(f" {MARKUP} better: +")
    assert " to +" in interval


def test_bars_are_where_the_numbers_say(browser: Chrome, page: Path) -> None:
    browsers.show(browser, page)
    place = """const chart = Chart.getChart(document.querySelector("canvas"));
        const set = chart.data.datasets.findIndex((each) => each.type === "bar" && each.data[0]);
        const bar = chart.getDatasetMeta(set).data[0].getProps(["base", "x"]);
        const [start, end] = [bar.base, bar.x].map((pixel) => chart.scales.x.getValueForPixel(pixel));
        return [start, end, chart.data.datasets[set].data[0]]"""
    start, end, limits = browser.execute_script(place)
    assert sorted([start, end]) == pytest.approx(limits, abs=0.1)

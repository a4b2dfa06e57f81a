"""Pages: values are escaped, what stands inside of <script> can't end it, and numbers read as people write them."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

jinja2 = pytest.importorskip("jinja2", reason="jinja2 is not installed (extra `pipelines`)")

from beam_pipelines.contract import pages  # noqa: E402  # it imports jinja2
from beam_pipelines.contract.pages.charts import Table, bars, curves, intervals  # noqa: E402

VENDOR = Path(pages.__file__).parent / "vendor"
CHART_JS = "87364cc2b2a76a6684929e7d6b80b18a897794db38400caff1fcf1791c6925d2"


def rendered(source: str, **values: object) -> str:
    return pages.environment("beam_pipelines.contract.pages").from_string(source).render(values)


def test_values_are_escaped() -> None:
    name = "<script>alert(1)</script>"
    assert name not in rendered("<p title='{{ name }}'>{{ name }}</p><script>{{ [name] | tojson }}</script>", name=name)


def test_a_value_that_is_missing_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError):
        rendered("{{ missing }}")


def test_a_chart_holds_its_numbers_as_data_and_as_a_table() -> None:
    chart = bars("Shares", ["</script>", "a"], {"train": [0.25, 0.75]}, what="class", horizontal=True)
    page = rendered("{% import 'charts.html' as charts %}{{ charts.draw(chart) }}", chart=chart)
    (config,) = re.findall(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)
    data = json.loads(config)["data"]
    assert (data["labels"], data["datasets"][0]["data"]) == (["</script>", "a"], [0.25, 0.75])
    assert re.findall(r"<td class=\"number\">(.*?)</td>", page) == ["25.0%", "75.0%"]
    assert "&lt;/script&gt;" in page
    assert "<small>" not in page


def test_a_chart_has_its_note_beside_its_title() -> None:
    chart = bars("Shares", ["a"], {"train": [1.0]}, what="class", note="The last bar: 4 < more.")
    page = rendered("{% import 'charts.html' as charts %}{{ charts.draw(chart) }}", chart=chart)
    assert "<figcaption>Shares<small>The last bar: 4 &lt; more.</small></figcaption>" in page


def test_intervals_have_a_point_and_the_bar_of_their_group() -> None:
    limits: dict[str, list[tuple[float, float] | None]] = {
        "better": [(1, 3), None, None],
        "unclear": [None, None, (-1, 2)],
    }
    values = [2.0, float("nan"), 0.5]
    chart = intervals(
        "Differences",
        ["a", "b", "c"],
        values,
        limits,
        what="points",
        tones=["green", "series-6"],
        table=Table(["class", "points"], [["a", "2"]]),
        dots="difference",
        signed=True,
        within=(-2, 4),
    )
    points, better, unclear, zero = chart.config["data"]["datasets"]
    assert points["data"] == [2, None, 0.5]
    assert (better["data"], unclear["data"]) == ([[1, 3], None, None], [None, None, [-1, 2]])
    assert (better["tone"], unclear["tone"]) == ("green", "series-6")
    assert zero["data"] == [0, 0, 0]
    assert (chart.config["options"]["scales"]["x"]["suggestedMin"], chart.config["signed"]) == (-2, True)
    json.dumps(chart.config, allow_nan=False)


def test_curves_of_different_places_share_a_table() -> None:
    series = {"one": [(1.0, 0.25), (2.0, 0.5)], "other": [(1.5, 0.125)]}
    chart = curves("IoU", series, what="epoch", percent=True)
    assert chart.table.rows == [["1", "25.0%", ""], ["1.5", "", "12.5%"], ["2", "50.0%", ""]]
    assert chart.config["data"]["datasets"][0]["data"] == [{"x": 1, "y": 0.25}, {"x": 2, "y": 0.5}]
    many = {str(number): [(float(place), 0.5) for place in range(60)] for number in range(8)} | {
        "one point": [(1.0, 0.5)]
    }
    sets = curves("IoU", many, what="epoch", percent=False).config["data"]["datasets"]
    assert [bool(each["pointRadius"]) for each in sets] == [False] * 8 + [True]
    assert [bool(each["borderDash"]) for each in sets] == [False] * 6 + [True] * 3
    assert sets[6]["tone"] == sets[0]["tone"]


def test_a_table_can_be_open_from_the_start() -> None:
    chart = bars("Shares", ["a"], {"train": [1.0]}, what="class")
    source = "{% import 'charts.html' as charts %}{{ charts.draw(chart, open=true) }}{{ charts.draw(chart) }}"
    assert re.findall("<details.*?>", rendered(source, chart=chart)) == ["<details open>", "<details>"]


def test_a_page_has_all_that_it_needs() -> None:
    page = rendered("{% extends 'base.html' %}{% block title %}Mine{% endblock %}")
    assert "<title>Mine</title>" in page
    assert not re.findall(r'(?:src|href)="(?!#|data:)', page.partition("<script>")[0])
    assert "sourceMappingURL" not in page
    assert page.count("</script>") == 2


@pytest.mark.parametrize("text", ["</script>", "</SCRIPT >", "x </script\n>"])
def test_a_script_can_not_end_its_element(text: str) -> None:
    with pytest.raises(ValueError, match="has </script"):
        pages._inside("script", text)


def test_the_vendored_library_is_as_published() -> None:
    """Chart.js 4.6.1, dist/chart.umd.min.js; its license is beside it."""
    assert hashlib.sha256((VENDOR / "chart.umd.js").read_bytes()).hexdigest() == CHART_JS
    assert "MIT License" in (VENDOR / "chart.LICENSE.md").read_text()
    assert "4.6.1" in (VENDOR / "README.md").read_text()


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0%"), (1e-9, "<0.01%"), (0.0004, "0.04%"), (0.00999, "1.0%"), (0.5, "50.0%"), (1, "100.0%")],
)
def test_shares(value: float, shown: str) -> None:
    assert pages.share(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0"), (0.001, "1"), (0.5, "50"), (0.665, "66"), (0.9999, "99"), (1, "100")]
)
def test_whole_percents_are_none_and_all_only_if_it_is_so(value: float, shown: str) -> None:
    assert pages.whole_percent(value) == shown


def test_counts_have_separators() -> None:
    assert pages.count(1234567) == "1,234,567"

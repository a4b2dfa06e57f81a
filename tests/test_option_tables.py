"""The tables of options in the README files, against the parsers that they are made from."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import option_tables
from tests.support.builds import PROJECT
from tests.support.option_tables import SOURCES, MarkerError, readmes, rewrite


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cook")
    parser.add_argument("dish", help="what to cook")
    group = parser.add_argument_group("time and heat")
    group.add_argument("--minutes", "-m", type=float, default=7.0, help="time on the stove")
    group.add_argument("--heat", choices=["low", "high"], required=True, help="low | high, of %(prog)s")
    group.add_argument("--rack", type=int, default=2, help="of the oven (default: the 2nd from below)")
    group.add_argument("--size", default=(0.5, 2.0), help="of the pieces")
    group.add_argument("--lid", default="off", help="on or off (default: %(default)s)")
    group.add_argument("--secret", help=argparse.SUPPRESS)
    return parser


TABLE = """<!-- options: cook -->

**Positional arguments**

| option | default | meaning |
| --- | --- | --- |
| `dish` |  | what to cook |

**Time and heat**

| option | default | meaning |
| --- | --- | --- |
| `--minutes MINUTES`, `-m` | `7` | time on the stove |
| `--heat {low,high}` (required) |  | low \\| high, of cook |
| `--rack RACK` | the 2nd from below | of the oven |
| `--size SIZE` | `0.5,2` | of the pieces |
| `--lid LID` | `off` | on or off |

<!-- end -->"""


def test_a_table_says_what_the_parser_knows() -> None:
    text = "before\n<!-- options: cook -->\nstale\n<!-- end -->\nafter\n"
    made = rewrite(text, {"cook": make_parser})
    assert made == f"before\n{TABLE}\nafter\n"
    assert rewrite(made, {"cook": make_parser}) == made


def test_a_table_may_be_made_of_lines() -> None:
    text = "<!-- options: menu -->\n<!-- end -->"
    made = rewrite(text, {"menu": lambda: [("dish", "price"), ("soup", "3 | 4")]})
    table = "| dish | price |\n| --- | --- |\n| soup | 3 \\| 4 |"
    assert made == f"<!-- options: menu -->\n\n{table}\n\n<!-- end -->"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- options: baker -->\n<!-- end -->", "there is no source baker; SOURCES has cook"),
        ("<!-- options: cook -->\n", "1 markers, 0 pairs"),
        ("<!-- options: cook -->\n<!-- options: cook -->\n<!-- end -->", "3 markers, 0 pairs"),
        ("<!-- end -->", "1 markers, 0 pairs"),
    ],
)
def test_a_marker_that_has_no_table_is_an_error(text: str, message: str) -> None:
    with pytest.raises(MarkerError, match=message):
        rewrite(text, {"cook": make_parser})


def test_the_tables_in_the_readmes_are_up_to_date(tmp_path: Path) -> None:
    """`make docs` updates them. In a process of its own: other tests enter rows into tables that help texts list."""
    copies = {path: tmp_path / path.relative_to(PROJECT) for path in readmes()}
    for path, copy in copies.items():
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(path, copy)
    lines = (
        "from pathlib import Path",
        "from tests.support import option_tables",
        f"option_tables.PROJECT = Path({str(tmp_path)!r})",
        "option_tables.main()",
    )
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    texts = [path.read_text(encoding="utf-8") for path in readmes()]
    assert all(any(f"<!-- options: {name} -->" in text for text in texts) for name in SOURCES)


def test_the_script_rewrites_what_is_out_of_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "README.md").write_text("<!-- options: launch.doctor -->\n<!-- end -->\n")
    monkeypatch.setattr(option_tables, "PROJECT", tmp_path)
    option_tables.main()
    assert "| `--job {dataflow,vertex}` |" in (tmp_path / "README.md").read_text()


def test_the_script_runs_and_imports_nothing_heavy() -> None:
    code = "import sys; from tests.support import option_tables; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "launch" in loaded
    assert not loaded & {"apache_beam", "keras", "tensorflow"}

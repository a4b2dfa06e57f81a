"""The folder that a comparison is written to: comparison.json and index.html."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from beam_pipelines.contract.readable_json import render
from trainer.comparison.options import CompareSettings
from trainer.comparison.runs import METRICS, ComparisonError
from trainer.comparison.study import Study
from trainer.files import DamagedFileError, make_folder, names_in, read_bytes, write_whole

NUMBERS = "comparison.json"
PAGE = "index.html"
_BYTES = 2**28


def folder_of(settings: CompareSettings) -> str:
    """`--output`, or `comparison` beside the first run or report."""
    first = settings.sides[0][0]
    return settings.output or os.path.join(os.path.dirname(first), "comparison")


def check_free(folder: str, settings: CompareSettings, reports: Sequence[str]) -> None:
    """Refuses a folder with files of the same names, unless they are of the same reports, or --overwrite is set.

    Raises:
      ComparisonError: there are such files, or files of that name that no comparison has written: these are never
        replaced.
    """
    names = {*names_in(folder)}
    if METRICS in names:
        raise ComparisonError(f"{folder} is the folder of a report, whose page would be lost: choose another --output")
    there = sorted({NUMBERS, PAGE} & names)
    compared = _reports_in(f"{folder}/{NUMBERS}") if there else None
    if there and compared is None:
        raise ComparisonError(
            f"{folder} already contains {' and '.join(there)}, not of a comparison: choose another --output"
        )
    if not there or settings.overwrite or compared == [*reports]:
        return
    raise ComparisonError(
        f"{folder} already contains {' and '.join(there)}, not of these runs: choose another --output, or replace "
        f"{'them' if len(there) > 1 else 'it'} with --overwrite"
    )


def write(folder: str, found: Study) -> None:
    """Writes both files."""
    from trainer.comparison.page import render as page

    texts = {NUMBERS: render(found.to_json()) + "\n", PAGE: page(found)}
    make_folder(folder)
    for name, text in texts.items():
        write_whole(f"{folder}/{name}", text.encode())


def _reports_in(path: str) -> list[str] | None:
    """The reports of a comparison.json, in order; None if it is not one."""
    try:
        sides = json.loads(read_bytes(path, _BYTES))["sides"]
        return [run["report"] for side in sides for run in side["runs"]]
    except (FileNotFoundError, DamagedFileError, ValueError, KeyError, TypeError):
        return None

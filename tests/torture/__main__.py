"""`make torture`: damages what is read, kills and disturbs what writes, and prints what came of it.

python -m tests.torture                                     everything
python -m tests.torture --only=image --cases=1000           some of it
python -m tests.torture --only=image --seed=0 --case=17     one case of a reader again, with its traceback
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from rich.console import Console
from rich.table import Column, Table

from tests.support.small_disks import NoRightToMountError
from tests.torture.readers import READERS
from tests.torture.run import KINDS, Result
from tests.torture.tortures import CASES, KILLS, TORTURES, result_of


def _failed(kind: str, result: Result) -> str:
    return f"{result.failed(kind):,}"


COLUMNS: dict[str, Callable[[Result], str]] = {
    "cases": lambda result: f"{result.tried:,}",
    "right": lambda result: f"{result.equal:,}",
    "read as other": lambda result: f"{result.other:,}",
    "typed error": lambda result: f"{result.refused:,}",
    **{kind: functools.partial(_failed, kind) for kind in KINDS},
    "worst s": lambda result: f"{result.worst_s:,.2f}",
    "of case": lambda result: str(result.worst_case),
    "MB": lambda result: f"{result.peak_mb:,}",
    "min:s": lambda result: "{}:{:02}".format(*divmod(round(result.took_s), 60)),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=list(TORTURES), help="default: all")
    parser.add_argument(f"--{CASES}", type=int, default=100_000, help="of each reader; slow ones get fewer")
    parser.add_argument(f"--{KILLS}", type=int, default=20, help="of each command, or cases of what disturbs it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, help="this one of a reader alone, in this process")
    args = parser.parse_args()
    names = args.only or list(TORTURES)
    if args.case is not None:
        if names[0] not in READERS:
            parser.error(f"--case is for a reader: --only={next(iter(READERS))}")
        return replay(names[0], args.seed, args.case)
    results, console = {}, Console(width=144)
    for name in names:
        try:
            results[name] = result_of(name, args.seed, vars(args))
        except NoRightToMountError as error:
            console.print(f"{name}: skipped, {error}", markup=False, highlight=False)
            continue
        print_results({name: results[name]}, console)
    if len(results) > 1:
        print_results(results, console)
    return int(any(result.failures for result in results.values()))


def replay(name: str, seed: int, case: int) -> int:
    from tests.torture.worker import damaged

    reader = READERS[name]()
    _, data = damaged(reader, name, seed, case)
    print(f"{len(data):,} bytes: {data[:200]!r}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        print(repr(reader.read(data, Path(folder) / "input"))[:500])
    return 0


def print_results(results: dict[str, Result], console: Console) -> None:
    table = Table(Column("torture", no_wrap=True), *COLUMNS)
    for name, result in results.items():
        table.add_row(name, *(shown(result) for shown in COLUMNS.values()))
    console.print(table)
    for name, result in results.items():
        for kind in KINDS:
            told = dict.fromkeys(failure.told.split(":")[0] for failure in result.failures if failure.kind == kind)
            for start in told:
                same = [each for each in result.failures if each.kind == kind and each.told.split(":")[0] == start]
                line = f"{name}: {len(same):,} x {kind}: {same[0].told} (case {same[0].case})"
                console.print(line, markup=False, highlight=False)


if __name__ == "__main__":
    sys.exit(main())

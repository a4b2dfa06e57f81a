"""`make torture`: damages what the readers read, a hundred thousand times each, and prints what came of it.

python -m tests.torture                                     everything
python -m tests.torture --reader=image --cases=1000         some of it
python -m tests.torture --reader=image --seed=0 --case=17   one case again, with its traceback
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.torture.kills import torture_builds
from tests.torture.readers import READERS
from tests.torture.run import Result, torture

BUILDS = "killed build"
KILLS = 20


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__.splitlines()[0])
    parser.add_argument("--reader", action="append", choices=[*READERS, BUILDS], help="default: all")
    parser.add_argument("--cases", type=int, default=100_000, help="of each reader; slow ones get fewer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, help="this one alone, in this process")
    args = parser.parse_args()
    names = args.reader or [*READERS, BUILDS]
    if args.case is not None:
        return replay(names[0], args.seed, args.case)
    results, console = {}, Console(width=120)
    for name in names:
        results[name] = _result_of(name, args.seed, args.cases)
        print_results({name: results[name]}, console)
    if len(results) > 1:
        print_results(results, console)
    return int(any(result.failures for result in results.values()))


def _result_of(name: str, seed: int, cases: int) -> Result:
    if name != BUILDS:
        return torture(name, seed, 0, max(1, cases // READERS[name]().slowness))
    with tempfile.TemporaryDirectory() as folder:
        return torture_builds(seed, KILLS, Path(folder))


def replay(name: str, seed: int, case: int) -> int:
    from tests.torture.worker import damaged

    reader = READERS[name]()
    _, data = damaged(reader, name, seed, case)
    print(f"{len(data):,} bytes: {data[:200]!r}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        print(repr(reader.read(data, Path(folder) / "input"))[:500])
    return 0


def print_results(results: dict[str, Result], console: Console) -> None:
    columns = ("reader", "tried", "equal", "read as other", "refused", "failures", "worst ms", "of case", "peak MB")
    table = Table(*columns)
    for name, result in results.items():
        counts = (result.tried, result.equal, result.other, result.refused, len(result.failures))
        worst = (f"{result.worst_s * 1000:,.1f}", str(result.worst_case), f"{result.peak_mb:,}")
        table.add_row(name, *(f"{count:,}" for count in counts), *worst)
    console.print(table)
    for name, result in results.items():
        kinds = Counter(told.split(":")[0] for _, told in result.failures)
        for kind, times in kinds.most_common():
            case, told = next(failure for failure in result.failures if failure[1].split(":")[0] == kind)
            console.print(f"{name}: {times:,} x {told} (--case={case})", markup=False, highlight=False)


if __name__ == "__main__":
    sys.exit(main())

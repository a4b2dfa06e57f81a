"""`python -m trainer.compare`: tells whether runs differ by more than chance, and writes a page about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trainer.console import run_command, run_main  # nothing slow: signals are handled after this

if TYPE_CHECKING:
    from trainer.comparison.options import CompareSettings


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 the comparison is written, 1 it is not, 2 (SystemExit) the arguments are wrong."""
    from trainer.comparison.options import parse_compare

    settings = parse_compare(argv)

    def work() -> int:
        run(settings)
        return 0

    return run_command(work, verbose=settings.verbose, less_memory="Compare fewer runs at a time")


def run(settings: CompareSettings) -> None:
    """Reads the reports, prints the tables, and writes the comparison.

    Raises:
      ComparisonError: the runs can't be compared, or the folder has another comparison.
    """
    from rich.console import Console

    from trainer.comparison import output
    from trainer.comparison.printed import print_study
    from trainer.comparison.runs import read_runs
    from trainer.comparison.study import study

    console = Console(soft_wrap=True)
    runs = read_runs([run for side in settings.sides for run in side], settings.split)
    folder = output.folder_of(settings)
    output.check_free(folder, settings, [run.report for run in runs])
    found = study(runs, [len(side) for side in settings.sides], settings.argv)
    print_study(found, console)
    output.write(folder, found)
    console.print(f"page: {folder}/{output.PAGE}", highlight=False, markup=False)


if __name__ == "__main__":
    run_main(main)

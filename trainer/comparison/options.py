"""The command line of `trainer.compare` as one frozen CompareSettings."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from trainer import arguments

DEFAULT_SPLIT = "val"


@dataclass(frozen=True, kw_only=True)
class CompareSettings:
    """A parsed command line: either `runs`, each compared with the first, or the runs of the sides `a` and `b`.

    Attributes:
      argv: the command line.
      split: None for DEFAULT_SPLIT of runs, and any of reports.
      output: None for a folder beside the first run or report.
    """

    runs: tuple[str, ...] = ()
    a: tuple[str, ...] = ()
    b: tuple[str, ...] = ()
    split: str | None = None
    output: str | None = None
    overwrite: bool = False
    verbose: bool = False
    argv: tuple[str, ...] = ()

    @property
    def sides(self) -> tuple[tuple[str, ...], ...]:
        """The runs of each side; the first one is what the others are compared with."""
        return (self.a, self.b) if self.a else tuple((run,) for run in self.runs)


def parse_compare(argv: Sequence[str] | None = None) -> CompareSettings:
    """Raises SystemExit with code 2 and a message if the arguments are wrong."""
    parser = compare_parser()
    values = vars(parser.parse_args(argv))
    runs, a, b = (tuple(values.pop(name) or ()) for name in ("runs", "a", "b"))
    settings = CompareSettings(runs=runs, a=a, b=b, **values, argv=tuple(sys.argv[1:] if argv is None else argv))
    if problem := _problem(settings):
        parser.error(problem)
    return settings


def compare_parser() -> argparse.ArgumentParser:
    """The parser of `python -m trainer.compare`."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.compare",
        usage="%(prog)s RUN_A RUN_B [RUN_C ...] [options]\n       %(prog)s --a=RUN,RUN,... --b=RUN,RUN,... [options]",
        description="Tells whether models differ by more than chance, on the images that all of them were scored on by "
        "trainer.evaluate: the differences of mean IoU and of each class with 95 % intervals and p-values, in the "
        "terminal, as comparison.json and as a page. A RUN is the folder of a run, or of one of its reports.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "runs", nargs="*", type=arguments.folder, metavar="RUN", help="runs, each compared with the first"
    )
    for side, other in (("a", "b"), ("b", "a")):
        parser.add_argument(
            f"--{side}",
            type=arguments.folders,
            metavar="RUN,...",
            help=f"runs of one setting, such as seeds, compared with those of --{other}",
        )
    parser.add_argument(
        "--split",
        help=f"split whose reports are compared (default: {DEFAULT_SPLIT}, or that of a report that is named)",
    )
    parser.add_argument(
        "--output",
        type=arguments.output_folder,
        metavar="DIR",
        help="folder to write to, local or gs:// (default: comparison beside the first run or report)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace another comparison in the output folder")
    arguments.add_verbose(parser)
    return parser


def _problem(settings: CompareSettings) -> str | None:
    if settings.runs and (settings.a or settings.b):
        return "name runs either as RUN_A RUN_B, or with --a and --b"
    if bool(settings.a) != bool(settings.b):
        missing, given = ("b", "a") if settings.a else ("a", "b")
        return f"--{given} needs the other side: set --{missing}, too"
    if not settings.a and len(settings.runs) < 2:
        return "expected two runs or more: RUN_A RUN_B, or --a=RUN,... and --b=RUN,..."
    named = [run for side in settings.sides for run in side]
    twice = next((run for run in named if named.count(run) > 1), None)
    return None if twice is None else f"{twice} is named twice; name each run once"

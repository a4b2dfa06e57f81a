"""`python -m beam_pipelines.build`: from images and masks to a data set."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence

from beam_pipelines import stopping  # imports nothing slow: signals are handled after this


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 if the data set exists, 1 if it does not, 2 (SystemExit) if the arguments are wrong.

    As a command it also exits with 128 + the number of the signal that stopped it.
    """
    from beam_pipelines.options import parse_build

    started = time.time()
    settings = parse_build(argv)
    stopping.resumes(not settings.plan_only)
    # Beam takes a second to import; --help and wrong options exit before that.
    gc.disable()  # it would scan all imported modules again and again, and find nothing
    from beam_pipelines.builder import run

    gc.freeze()
    gc.enable()

    return run(settings, started)


if __name__ == "__main__":
    stopping.resumes(True)
    stopping.command(main)

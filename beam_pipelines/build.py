"""`python -m beam_pipelines.build`: from pictures and masks to a data set."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence

from beam_pipelines import stopping  # nothing that takes long: signals are heard after this


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 the data set is there, 1 it is not, 2 (SystemExit) the arguments are wrong.

    As a command it also ends with 128 + the number of the signal that stopped it.
    """
    from beam_pipelines.options import parse_build

    started = time.time()
    settings = parse_build(argv)
    # Beam takes a second to import: --help and a mistyped option end before this.
    gc.disable()  # it has nothing to find among imported modules, and looks at all of them, again and again
    from beam_pipelines.builder import run

    gc.freeze()
    gc.enable()

    return run(settings, started)


if __name__ == "__main__":
    stopping.command(main)

"""`python -m beam_pipelines.verify DATASET`: reads a data set back and proves it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from beam_pipelines.options import parse_verify


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 all holds, 1 something does not, 2 there is no data set or the arguments are wrong."""
    settings = parse_verify(argv)
    # Beam takes a second to import: --help ends before this.
    from beam_pipelines.verifier import run

    return run(settings)


if __name__ == "__main__":
    sys.exit(main())

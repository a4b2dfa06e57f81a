"""`python -m launch.dataflow`: the build of `beam_pipelines.build`, on Google Cloud Dataflow."""

from __future__ import annotations

import time
from collections.abc import Sequence

from launch.errors import command, missing_packages
from trainer import console  # nothing slow: signals are handled after this


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 the data set is complete (with --no_wait: the job is submitted), 1 it is not, 128 + N
    after signal N, 2 (SystemExit) the arguments are wrong.
    """
    from launch.dataflow.options import parse

    started = time.time()
    settings = parse(argv)
    # Importing Beam takes a second: --help and wrong arguments end before this.
    with missing_packages("pipelines"):
        from launch.dataflow.run import run

    console.raise_when_stopped()
    return run(settings, started)


if __name__ == "__main__":
    console.run_main(main, console.SIGNALS)

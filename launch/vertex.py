"""`python -m launch.vertex`: a training run or a hyperparameter search on Vertex AI."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from launch.errors import LaunchError, missing_packages
from launch.jobs import describe, request_of
from launch.options import LaunchSettings, parse_launch
from trainer.console import interruptible


@interruptible
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 the job is submitted (with --local: the run is done), 1 it is not, 128 + the signal's
    number where a signal stopped a local run, 2 (SystemExit) the arguments are wrong.
    """
    settings = parse_launch(argv)
    try:
        if settings.hosts_here:
            from launch.rehearsal import rehearse

            return rehearse(settings)
        with tempfile.TemporaryDirectory() as scratch:
            return _submit(settings, Path(scratch))
    except LaunchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _submit(settings: LaunchSettings, scratch: Path) -> int:
    from launch.package import build_sdist, package_uri

    if not settings.dry_run:
        # Google's client takes seconds to import: --help, --dry_run and mistyped options end before this.
        with missing_packages():
            from launch.submission import submit
    job = settings.job
    sdist = None if job.container else build_sdist(scratch)
    package = package_uri(sdist, job.output) if sdist else None
    request = request_of(job, package)
    # The plan is no part of the request: with --dry_run the standard output is JSON and nothing else.
    print(describe(job, settings.train.dataset, package), file=sys.stderr if settings.dry_run else sys.stdout)
    if settings.dry_run:
        print(json.dumps(request, indent=2))
        return 0
    sys.stdout.flush()
    print(submit(settings, request, sdist, package))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m launch.vertex`: a training run or a hyperparameter search on Vertex AI."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from launch.errors import command, missing_packages
from trainer import console  # nothing slow: signals are handled after this

if TYPE_CHECKING:
    from launch.vertex.options import VertexSettings


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 the job is submitted (with --wait and --local: the run is complete), 1 it is not,
    128 + N after signal N, 2 (SystemExit) the arguments are wrong.
    """
    import tempfile

    from launch.vertex.options import parse

    settings = parse(argv)
    if settings.local_hosts:
        from launch.vertex.rehearsal import rehearse

        console.raise_when_stopped()
        return rehearse(
            settings.job.output,
            settings.job.trainer_options,
            settings.train,
            settings.local_hosts,
            settings.venv,
            settings.reuse_packages,
        )
    with tempfile.TemporaryDirectory() as scratch:
        return _submit(settings, Path(scratch))


def _submit(settings: VertexSettings, scratch: Path) -> int:
    """Submits the job, or with --dry_run prints the request."""
    from launch.vertex.image import check_constraints
    from launch.vertex.package import make_image_build, make_package
    from launch.vertex.request import make_request, summarize

    if not settings.dry_run:
        # Importing Google's client takes seconds: --help, --dry_run and wrong arguments end before this.
        with missing_packages("launch"):
            from launch.vertex.follow import wait_for
            from launch.vertex.submit import instructions, submit
    console.raise_when_stopped()
    job, package, build = settings.job, None, None
    if settings.build_container:
        build = make_image_build(settings.build_container, scratch, job.output, job.machine.is_tpu)
        job = replace(job, container=str(build.image))
    elif not job.container:
        check_constraints()
        package = make_package(scratch, job.output)
    request = make_request(job, package)
    # With --dry_run the standard output is the request as JSON and nothing else.
    summary = summarize(job, ", ".join(settings.train.places.datasets), package, is_built=build is not None)
    print(summary, file=sys.stderr if settings.dry_run else sys.stdout)
    if settings.dry_run:
        print(json.dumps(request, indent=2))
        return 0
    sys.stdout.flush()
    name = submit(job, settings.train, request, package, build, settings.endpoint)
    print(instructions(job, name), flush=True)
    if settings.wait:
        wait_for(job, name, settings.endpoint)
    return 0


if __name__ == "__main__":
    console.run_main(main, console.SIGNALS)

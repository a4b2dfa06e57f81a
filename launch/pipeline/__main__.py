"""`python -m launch.pipeline`: a data set on Dataflow and a training run on Vertex AI, with one command."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from launch.errors import command, missing_packages
from trainer import console  # nothing slow: signals are handled after this


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 the pipeline is submitted, 1 it is not, 128 + N after signal N, 2 (SystemExit) the
    arguments are wrong.
    """
    from launch.pipeline.options import parse
    from launch.vertex.image import check_constraints
    from launch.vertex.package import make_package

    settings = parse(argv)
    with missing_packages("launch"):
        from launch.pipeline.spec import compile_pipeline
        from launch.pipeline.submit import make_request, submit
    console.raise_when_stopped()
    check_constraints()
    job = settings.job
    with tempfile.TemporaryDirectory() as scratch:
        package = make_package(Path(scratch), job.output)
        request = make_request(settings, compile_pipeline(settings, package, Path(scratch)))
        summary = _summary(settings.build, settings.train)
        print(summary, file=sys.stderr if settings.dry_run else sys.stdout, flush=True)
        if settings.dry_run:
            print(json.dumps(request, indent=2))
            return 0
        name = submit(settings, request, package)
    page = f"https://console.cloud.google.com/vertex-ai/pipelines/locations/{job.region}/runs/{name.rpartition('/')[2]}"
    print(f"submitted {name}\nfollow    {page}?project={job.project}")
    return 0


def _summary(build: Sequence[str], train: Sequence[str]) -> str:
    """The commands of the steps, as lines for people."""
    return f"build     launch.dataflow {' '.join(build)}\ntrain     launch.vertex {' '.join(train)}"


if __name__ == "__main__":
    console.run_main(main, console.SIGNALS)

"""Whether the graph of the build can be pickled here, and unpickled by a local stand-in for Dataflow's workers."""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from launch.doctor.check import Session
from launch.doctor.findings import FAILURE, OK, SKIPPED, Finding
from launch.errors import LaunchError

_PACKAGES = ("apache_beam", "build", "rich")  # of the extra `pipelines`
# Placeholders: Beam's dry run makes the graph and the package without any request.
_ARGUMENTS = ("--project=nobody", "--region=us-central1", "--input=gs://nobody/in", "--output=gs://nobody/out")


def check_graph(_: Session) -> Iterator[Finding]:
    """Raises LaunchError if this is not a checkout, the package cannot be built or installed, or a step cannot be
    unpickled.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        yield Finding(SKIPPED, f"{', '.join(missing)} not installed: pip install '.[pipelines]'")
        return
    # Importing Beam takes seconds: only this check needs it.
    from launch.dataflow import options, preview, worker

    if not options.SETUP_FILE.exists():
        raise LaunchError(f"{options.SETUP_FILE} does not exist: run this command from a checkout of the project")
    try:
        job = preview.dry_run(options.parse(_ARGUMENTS).build, time.time())
    except (RuntimeError, TypeError, AttributeError) as error:  # what pickling raises
        lines = str(error).strip().splitlines() or [type(error).__name__]
        fix = "do not store process-local objects in it; create them in setup()"
        yield Finding(FAILURE, f"a step cannot be pickled, {lines[-1]}; {fix}")
        return
    package = dict(preview.staged_files(job))["workflow.tar.gz"]
    with tempfile.TemporaryDirectory() as folder:
        python = worker.make_worker(Path(folder) / "worker", Path(package))
        loaded = worker.load_graph(job.proto_pipeline.SerializeToString(), python)
    message = f"all {len(loaded.functions)} functions pickled, and unpickled by a worker without TensorFlow"
    yield Finding(OK, message)

"""The build's graph, pickled here and unpickled in a clean interpreter that has only what workers are sent."""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from launch.checks.finding import FAILURE, OK, SKIPPED, Finding

_PARTS = ("apache_beam", "build", "rich")  # of the extra `pipelines`
# Nobody has these buckets, and nobody is asked: Beam's dry run makes the graph and the package, and stops.
_JOB = ("--project=nobody", "--region=us-central1", "--input=gs://nobody/in", "--output=gs://nobody/out")


def check_graph() -> Iterator[Finding]:
    """Raises BuildError where the package can't be made or installed, or a step can't be unpickled."""
    missing = [name for name in _PARTS if importlib.util.find_spec(name) is None]
    if missing:
        told = f"{', '.join(missing)} not installed here: pip install '.[pipelines]'"
        yield Finding(SKIPPED, "graph", told)
        return
    # Beam takes seconds to import: the other checks come first.
    from launch import dataflow, dataflow_preview, worker

    try:
        job = dataflow_preview.dry_run(dataflow.parse(_JOB), time.time())
    except (RuntimeError, TypeError, AttributeError) as error:  # what pickling raises
        lines = str(error).strip().splitlines() or [type(error).__name__]
        told = (
            f"a step can't be pickled, {lines[-1]}; keep what belongs to one process out of it, and make that in setup"
        )
        yield Finding(FAILURE, "graph", told)
        return
    package = dict(dataflow_preview.files(job))["workflow.tar.gz"]
    with tempfile.TemporaryDirectory() as folder:
        python = worker.make_worker(Path(folder) / "worker", Path(package))
        loaded = worker.load_graph(job.proto_pipeline.SerializeToString(), python)
    told = (
        f"all {len(loaded.functions)} functions pickled, and loaded by a worker that has the package and no TensorFlow"
    )
    yield Finding(OK, "graph", told)

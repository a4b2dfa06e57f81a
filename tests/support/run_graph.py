"""`python run_graph.py gs://.../pipeline.pb`: runs a staged graph, as Dataflow does; prints its counters as JSON."""

from __future__ import annotations

import json
import sys

from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import common_urns, python_urns
from apache_beam.portability.api import beam_runner_api_pb2 as protos
from apache_beam.runners.portability.fn_api_runner import FnApiRunner


def main(url: str) -> None:
    """Runs in this process what would run in a container with this process's packages."""
    with FileSystems.open(url) as file:
        pipeline = protos.Pipeline.FromString(file.read())
    for environment in pipeline.components.environments.values():
        assert environment.urn == common_urns.environments.DOCKER.urn
        environment.Clear()
        environment.urn = python_urns.EMBEDDED_PYTHON
    result = FnApiRunner().run_via_runner_api(pipeline, PipelineOptions([]))
    result.wait_until_finish()
    print(json.dumps({counter.key.metric.name: counter.committed for counter in result.metrics().query()["counters"]}))


if __name__ == "__main__":
    main(sys.argv[1])

"""`python -m launch.worker_imports PIPELINE.pb`: does what a worker does first, which is to unpickle a whole graph.

Prints JSON: `functions`, the class of each step's function, and `modules`, what was imported for them besides Beam.
"""

from __future__ import annotations

import json
import sys

import apache_beam as beam
from apache_beam.pipeline import AppliedPTransform, PipelineVisitor
from apache_beam.portability.api import beam_runner_api_pb2 as protos
from apache_beam.runners.runner import PipelineRunner
from apache_beam.runners.worker import sdk_worker_main  # noqa: F401  what a worker has imported before it has a graph


class _Functions(PipelineVisitor):
    """Collects step -> the class of its DoFn."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}

    def visit_transform(self, node: AppliedPTransform) -> None:
        if isinstance(node.transform, beam.ParDo):
            self.found[node.full_label] = type(node.transform.fn).__name__


def main(path: str) -> None:
    """Raises what unpickling raises: above all, that there is no such module."""
    before = set(sys.modules)
    with open(path, "rb") as file:
        pipeline = beam.Pipeline.from_runner_api(protos.Pipeline.FromString(file.read()), PipelineRunner(), None)
    functions = _Functions()
    pipeline.visit(functions)
    print(json.dumps({"functions": functions.found, "modules": sorted(set(sys.modules) - before)}))


if __name__ == "__main__":
    main(sys.argv[1])

"""`python -m launch.dataflow.unpickle PIPELINE.pb`: unpickles a graph, as a worker does when it starts.

Prints JSON: `functions`, the class of the function of each step, and `modules`, the modules that were imported for
them.
"""

from __future__ import annotations

import json
import sys

import apache_beam as beam
from apache_beam.pipeline import AppliedPTransform, PipelineVisitor
from apache_beam.portability.api import beam_runner_api_pb2 as protos
from apache_beam.runners.runner import PipelineRunner
from apache_beam.runners.worker import sdk_worker_main  # noqa: F401  a worker imports it first


class _Functions(PipelineVisitor):
    """Collects step -> the class of its DoFn."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}

    def visit_transform(self, node: AppliedPTransform) -> None:
        if isinstance(node.transform, beam.ParDo):
            self.found[node.full_label] = type(node.transform.fn).__name__


def main(path: str) -> None:
    """Raises any error of unpickling, such as ModuleNotFoundError."""
    before = set(sys.modules)
    with open(path, "rb") as file:
        pipeline = beam.Pipeline.from_runner_api(protos.Pipeline.FromString(file.read()), PipelineRunner(), None)
    functions = _Functions()
    pipeline.visit(functions)
    # Cython keeps types in a module of its own making, which has no spec.
    imported = {name for name, module in sys.modules.items() if getattr(module, "__spec__", None)} - before
    print(json.dumps({"functions": functions.found, "modules": sorted(imported)}))


if __name__ == "__main__":
    main(sys.argv[1])

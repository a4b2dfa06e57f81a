"""The pipeline as kfp compiles it: two steps, each a command of this project in the public image of TensorFlow.

Without `annotations` of `__future__`: kfp reads those of a step.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from kfp import compiler, dsl

from launch.pipeline.options import PipelineSettings
from launch.vertex.image import PUBLIC
from launch.vertex.package import Package
from launch.vertex.request import BOOTSTRAP

_BUILD, _TRAIN = ("launch.dataflow", "pipelines,launch"), ("launch.vertex", "trainer,launch")  # module, extras


def compile_pipeline(settings: PipelineSettings, package: Package, scratch: Path) -> dict[str, Any]:
    """The PipelineSpec in JSON, https://www.kubeflow.org/docs/components/pipelines/reference/api/kubeflow-pipeline-api-spec.

    Args:
      package: what the steps install.
      scratch: an empty folder, into which kfp compiles.
    """
    build = _component("build-data-set", [*_start(package, *_BUILD), *settings.build])
    train = _component("train", [*_start(package, *_TRAIN), *settings.train])

    @dsl.pipeline(name="street-scenes", description="Builds a data set on Dataflow, then trains on it on Vertex AI.")
    def street_scenes() -> None:
        # Never from the cache: both commands look for themselves at what is done already.
        built = build().set_caching_options(False)
        train().after(built).set_caching_options(False)

    path = scratch / "pipeline.yaml"
    compiler.Compiler().compile(street_scenes, str(path))
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def _start(package: Package, module: str, extras: str) -> list[str]:
    """The arguments of the bootstrap, and of launch.start."""
    return [*package.uploads, f"--extras={extras}", f"--module={module}"]


def _component(name: str, arguments: Sequence[str]) -> Any:
    """A step that runs the bootstrap."""

    def step() -> dsl.ContainerSpec:
        return dsl.ContainerSpec(
            image=PUBLIC.uri(has_gpus=False), command=["python3", "-c", BOOTSTRAP], args=[*arguments]
        )

    step.__name__ = name
    return dsl.container_component(step)

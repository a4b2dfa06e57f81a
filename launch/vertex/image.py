"""The public container image that a job runs in unless --container names another, and what it has.

Vertex AI runs images of Docker Hub: https://cloud.google.com/vertex-ai/docs/training/configure-container-settings. Tags
and content are those of TensorFlow's own image, https://hub.docker.com/r/tensorflow/tensorflow/tags, built from
https://github.com/tensorflow/build/tree/master/tensorflow_runtime_dockerfiles: Ubuntu 22.04 with its Python 3.11, which
is 3.11.0rc1 (https://github.com/tensorflow/build/issues/210), and pip.
With `-gpu` it has TensorFlow and CUDA 12.3, but cuDNN 8.9, while TensorFlow loads cuDNN 9 since 2.18
(https://github.com/tensorflow/build/issues/221): `launch.start` installs NVIDIA's libraries beside it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from launch import arguments
from launch.errors import LaunchError

CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"


@dataclass(frozen=True, kw_only=True)
class PublicImage:
    """A public image: its `python` such as "3.11", and the release of its TensorFlow, which is its tag."""

    repository: str
    python: str
    tensorflow: str

    def uri(self, has_gpus: bool) -> str:
        """The image for machines with GPUs, or without."""
        return f"{self.repository}:{self.tensorflow}{'-gpu' if has_gpus else ''}"


HUB = "docker.io"
PUBLIC = PublicImage(repository=f"{HUB}/tensorflow/tensorflow", python="3.11", tensorflow="2.21.0")


def pinned(name: str) -> str:
    """The version of a package in constraints.txt.

    Raises:
      LaunchError: this is not a checkout, or the file has no such package.
    """
    if not CONSTRAINTS.is_file():
        raise LaunchError(f"{CONSTRAINTS} does not exist: run this command from a checkout of the project")
    found = re.search(rf"^{re.escape(name)}==(\S+)", CONSTRAINTS.read_text(encoding="utf-8"), re.MULTILINE)
    if not found:
        raise LaunchError(f"{CONSTRAINTS} has no version of {name}: restore the file")
    return found[1]


def check_constraints() -> None:
    """Raises LaunchError if constraints.txt would replace the TensorFlow of the public image."""
    pin = pinned("tensorflow")
    if pin != PUBLIC.tensorflow:
        raise LaunchError(
            f"constraints.txt has tensorflow=={pin}, and the image {PUBLIC.uri(has_gpus=False)} has "
            f"{PUBLIC.tensorflow}: set PUBLIC in launch/vertex/image.py to an image with {pin}, or set --container"
        )


@dataclass(frozen=True, kw_only=True)
class Built:
    """An image in Artifact Registry that Cloud Build makes: its parts, its tag, and `accelerator`, "gpu" or "tpu"."""

    location: str
    project: str
    repository: str
    name: str
    tag: str
    accelerator: str

    @property
    def resource(self) -> str:
        """The tag as Artifact Registry's API names it."""
        place = f"projects/{self.project}/locations/{self.location}/repositories/{self.repository}"
        return f"{place}/packages/{self.name}/tags/{self.tag}"

    def __str__(self) -> str:
        return f"{self.location}-docker.pkg.dev/{self.project}/{self.repository}/{self.name}:{self.tag}"


def built_image(image: str, digest: str, is_tpu: bool) -> Built:
    """The image of --build_container; its tag says what it is made of, so that the same sources are built once."""
    found = re.fullmatch(arguments.BUILT_IMAGE, image)
    assert found
    accelerator = "tpu" if is_tpu else "gpu"
    return Built(**found.groupdict(), tag=f"{accelerator}-{digest}", accelerator=accelerator)

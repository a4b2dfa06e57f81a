"""The Python, Beam, TensorFlow and Keras of this environment, compared with those of the images that jobs run."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageMetadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from launch.doctor.check import Session
from launch.doctor.checks.images import Image, public_image, trainer_image, worker_image
from launch.doctor.findings import FAILURE, OK, SKIPPED, WARNING, Finding
from launch.errors import LaunchError
from launch.start import DISTRIBUTION
from launch.vertex.image import PUBLIC

_HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"


def check_worker(session: Session) -> Iterator[Finding]:
    """Checks that workers have this Python and this Beam, since they unpickle what these have pickled.

    Without a custom image, workers run Beam's own, of which there is one for each Python that Beam supports.
    """
    beam = _installed("apache-beam")
    if beam is None:
        message = "apache-beam is not installed: pip install '.[pipelines]', or use --job=vertex"
        yield Finding(FAILURE, message)
        return
    image = worker_image() if session.settings.worker_image else None
    yield _python_of(image) if image else _python_of_beam(beam)
    yield _beam_of(beam, image)


def _beam_of(beam: str, image: Image | None) -> Finding:
    supported = _requirement("pipelines", "apache-beam")
    if beam not in supported:
        message = f"{beam} is installed, but the build supports {supported}: pip install '.[pipelines]'"
        return Finding(FAILURE, message)
    if image and image.beam != beam:
        message = f"{beam} here, {image.beam} in {image.name}: build the image with --build-arg BEAM={beam}"
        return Finding(FAILURE, message)
    return Finding(OK, f"{beam} here and on the workers")


def _python_of(image: Image) -> Finding:
    if image.python == _HERE:
        return Finding(OK, f"{platform.python_version()} here, {image.python} in {image.name}", "python")
    message = f"{_HERE} here, {image.python} in {image.name}: build the image with --build-arg PYTHON={_HERE}"
    return Finding(FAILURE, message, "python")


def _python_of_beam(beam: str) -> Finding:
    classifiers = importlib.metadata.metadata("apache-beam").get_all("Classifier") or []
    supported = re.findall(r"Python :: (\d+\.\d+)", "\n".join(classifiers))
    if _HERE in supported:
        return Finding(OK, f"{platform.python_version()}: workers run Beam's image for {_HERE}", "python")
    message = f"{_HERE}, but Beam {beam} has images only for {', '.join(supported)}: use one of these"
    return Finding(FAILURE, message, "python")


def check_trainer(session: Session) -> Iterator[Finding]:
    """Checks that the image supports the trainer, and that the models it saves can be loaded here."""
    custom_image = session.settings.trainer_image
    machine = session.settings.machine
    if machine.is_tpu and not custom_image:
        yield Finding(
            FAILURE, f"{PUBLIC.uri(has_gpus=False)} has no support for TPUs: set --container or --build_container"
        )
        return
    image = trainer_image(machine.is_tpu) if custom_image else public_image(machine.has_gpus)
    yield _source(custom_image, image)
    supported = _project()["Requires-Python"]
    if image.python in SpecifierSet(supported):
        yield Finding(OK, f"{image.python} in {image.name}; the trainer supports {supported}", "trainer python")
    else:
        message = f"{image.python} in {image.name}, but the trainer supports {supported}: set --container"
        yield Finding(FAILURE, message, "trainer python")
    for name, there in (("tensorflow", image.tensorflow), ("keras", image.keras)):
        if there:
            yield _trainer_package(name, there, image)


def _source(custom_image: str | None, image: Image) -> Finding:
    if custom_image:
        return Finding(OK, f"{custom_image}, assumed to be built from {image.name}")
    return Finding(OK, f"{image.name}, in which the job installs the package with constraints.txt")


def _trainer_package(name: str, there: str, image: Image) -> Finding:
    supported, here = _requirement("trainer", name), _installed(name)
    if there not in supported:
        message = f"{there} in {image.name}, but the trainer supports {supported}: set --container"
        return Finding(FAILURE, message, name)
    if here is None:
        message = f"{there} in {image.name}; not installed here: to load its models, pip install '.[trainer]'"
        return Finding(SKIPPED, message, name)
    if Version(here).release[:2] < Version(there).release[:2]:
        fix = f"pip install '{name}>={there}'"
        message = f"{here} here, {there} in {image.name}: models of the job may not load here; {fix}"
        return Finding(WARNING, message, name)
    return Finding(OK, f"{there} in {image.name}, {here} here", name)


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _project() -> PackageMetadata:
    """The metadata of this project. Raises LaunchError if it is not installed."""
    try:
        return importlib.metadata.metadata(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError as error:
        raise LaunchError(f"{DISTRIBUTION} is not installed: pip install '.[launch]'") from error


def _requirement(extra: str, name: str) -> SpecifierSet:
    """The versions of a package that an extra of this project requires."""
    lines = map(Requirement, _project().get_all("Requires-Dist") or [])
    return next(
        line.specifier for line in lines if line.name == name and line.marker and line.marker.evaluate({"extra": extra})
    )

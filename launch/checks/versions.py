"""The Python, Beam, TensorFlow and Keras of this environment against those of the images that jobs run in."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageMetadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from launch.checks.finding import FAILURE, OK, SKIPPED, WARNING, Finding
from launch.checks.images import Image, prebuilt_image, trainer_image, worker_image
from launch.errors import LaunchError
from launch.jobs import PREBUILT_UNTIL
from launch.machines import Machine
from launch.start import DISTRIBUTION

_HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"


def check_worker(own_image: str | None) -> Iterator[Finding]:
    """Workers unpickle what this Python and this Beam pickled: both must be the same there.

    Without `own_image` Beam takes its own image for both; there is one for each Python that Beam supports.
    """
    beam = _installed("apache-beam")
    if beam is None:
        told = "apache-beam is not installed here: pip install '.[pipelines]', or look at --job=vertex alone"
        yield Finding(FAILURE, "beam", told)
        return
    image = worker_image() if own_image else None
    yield _worker_python(beam, image)
    wanted = _requirement("pipelines", "apache-beam")
    if beam not in wanted:
        yield Finding(
            FAILURE, "beam", f"{beam} is not {wanted}, which the build is made for: pip install '.[pipelines]'"
        )
    elif image and image.beam != beam:
        told = f"{beam} here and {image.beam} in {image.name}: build the image with --build-arg BEAM={beam}"
        yield Finding(FAILURE, "beam", told)
    else:
        yield Finding(OK, "beam", f"{beam} here and on workers")


def _worker_python(beam: str, image: Image | None) -> Finding:
    if image:
        if image.python == _HERE:
            return Finding(OK, "python", f"{platform.python_version()} here, {image.python} in {image.name}")
        told = f"{_HERE} here and {image.python} in {image.name}: build the image with --build-arg PYTHON={_HERE}"
        return Finding(FAILURE, "python", told)
    classifiers = importlib.metadata.metadata("apache-beam").get_all("Classifier") or []
    known = re.findall(r"Python :: (\d+\.\d+)", "\n".join(classifiers))
    if _HERE in known:
        return Finding(OK, "python", f"{platform.python_version()}: workers run Beam's own image for {_HERE}")
    told = f"{_HERE}, and Beam {beam} has images for {', '.join(known)}: take one of these"
    return Finding(FAILURE, "python", told)


def check_trainer(own_image: str | None, machine: Machine) -> Iterator[Finding]:
    """The image must be fit for the trainer; and what it saves is loaded here, where an older version may fail to."""
    image = trainer_image(machine.is_tpu) if own_image else prebuilt_image()
    yield _listing(own_image, image)
    supported = _project()["Requires-Python"]
    if image.python in SpecifierSet(supported):
        yield Finding(OK, "trainer python", f"{image.python} in {image.name}; the trainer runs on {supported}")
    else:
        told = f"{image.python} in {image.name}, and the trainer takes {supported}: give --container"
        yield Finding(FAILURE, "trainer python", told)
    for name, there in (("tensorflow", image.tensorflow), ("keras", image.keras)):
        if there:
            yield _trainer_package(name, there, image)


def _listing(own_image: str | None, image: Image) -> Finding:
    if own_image:
        return Finding(OK, "trainer image", f"{own_image}, taken to be made by {image.name}")
    if datetime.date.today() <= datetime.date.fromisoformat(PREBUILT_UNTIL):
        return Finding(OK, "trainer image", f"{image.name}, which Google lists until {PREBUILT_UNTIL}")
    told = (
        f"Google listed {image.name} until {PREBUILT_UNTIL}: it gets no updates and may be gone; make one of "
        "launch/Dockerfile.trainer, and give --container"
    )
    return Finding(WARNING, "trainer image", told)


def _trainer_package(name: str, there: str, image: Image) -> Finding:
    wanted, here = _requirement("trainer", name), _installed(name)
    if there not in wanted:
        told = f"{there} in {image.name}, and the trainer takes {wanted}: give --container"
        return Finding(FAILURE, name, told)
    if here is None:
        told = (
            f"{there} in {image.name}; not installed here, where `pip install '.[trainer]'` lets its models be loaded"
        )
        return Finding(SKIPPED, name, told)
    if Version(here).release[:2] < Version(there).release[:2]:
        told = f"{here} here, {there} in {image.name}: a job's models may not load here; pip install '{name}>={there}'"
        return Finding(WARNING, name, told)
    return Finding(OK, name, f"{there} in {image.name}, {here} here")


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _project() -> PackageMetadata:
    """Raises LaunchError where a checkout is started from that is not installed."""
    try:
        return importlib.metadata.metadata(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError as error:
        raise LaunchError(f"{DISTRIBUTION} is not installed here: pip install '.[launch]'") from error


def _requirement(extra: str, name: str) -> SpecifierSet:
    """The versions of a package that the project's extra asks for."""
    lines = map(Requirement, _project().get_all("Requires-Dist") or [])
    return next(
        line.specifier for line in lines if line.name == name and line.marker and line.marker.evaluate({"extra": extra})
    )

"""What all tests run with: real street scenes where they are at hand, a bucket on this machine, settings."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.support.builds import SHOWN, no_transform, real_scenes

if TYPE_CHECKING:
    from tests.support.faulty_storage import Front

# Several processes run the tests, a file each: what takes minutes comes first, so that none has it alone at the end.
LONG = (
    "tests/trainer/training/",
    "tests/beam_pipelines/metadata/",
    "tests/beam_pipelines/files/",
    "tests/runners/",
    "tests/trainer/evaluation/",
    "tests/launch/dataflow/",
)

settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
settings.load_profile("untimed")

# Shells start what they put into the background deaf to Ctrl-C, and all that it starts is, too.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.getreports("passed"):
        for name, text in report.user_properties:
            if name == SHOWN:
                terminalreporter.write(f"\n{text}")


@pytest.fixture(scope="session")
def camvid() -> Path:
    return real_scenes("camvid")


@pytest.fixture(scope="session")
def cityscapes_sample() -> Path:
    return real_scenes("cityscapes_sample")


@pytest.fixture(scope="module")
def without_transform() -> Iterator[None]:
    with no_transform():
        yield


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """gs://street, in an emulator on this machine, with a service account that its token server accepts."""
    from tests.support.buckets import emulated

    with emulated("street", tmp_path_factory.mktemp("account")) as bucket:
        yield bucket


@pytest.fixture(scope="module")
def front(bucket: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """What stands before that bucket and makes faults; TensorFlow comes to it by `front.for_tensorflow`."""
    from tests.support.faulty_storage import serve

    emulator = os.environ["STORAGE_EMULATOR_HOST"].removeprefix("http://")
    with serve(emulator, tmp_path_factory.mktemp("tls")) as front, pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", f"http://{front.address}")
        yield front

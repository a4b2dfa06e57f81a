"""The versions here against those of the images that jobs run."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from launch.doctor.checks import images, versions
from launch.vertex import image
from tests.support.diagnosis import OWN_TRAINER, found_by
from tests.support.fake_google import FakeGoogle

OWN_WORKER = "--sdk_container_image=p/r/scenes:1"


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, version: str, more: str = "") -> None:
    """Another version of a package, as far as its metadata goes."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{more}")
    monkeypatch.syspath_prepend(str(folder))


def worker_findings(*arguments: str) -> dict[str, str]:
    return found_by("beam", *arguments)


def trainer_findings(*arguments: str) -> dict[str, str]:
    return found_by("trainer image", *arguments)


def test_another_beam_than_the_builds_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "apache-beam", "2.60.0", "Classifier: Programming Language :: Python :: 3.9\n")
    here = ".".join(map(str, sys.version_info[:2]))
    assert worker_findings() == {
        "python": f"failure {here}, but Beam 2.60.0 has images only for 3.9: use one of these",
        "beam": "failure 2.60.0 is installed, but the build supports <2.78,>=2.77: pip install '.[pipelines]'",
    }


def test_a_checkout_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "DISTRIBUTION", "not-to-be-had")
    message = "failure not-to-be-had is not installed: pip install '.[launch]'"
    assert worker_findings()["beam"] == message
    assert trainer_findings()["trainer image"] == message


def test_without_beam_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "_installed", {}.get)
    assert worker_findings() == {
        "beam": "failure apache-beam is not installed: pip install '.[pipelines]', or use --job=vertex"
    }


def test_an_image_for_workers_has_the_python_and_the_beam_of_this_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = images.worker_image()
    assert worker_findings(OWN_WORKER)["beam"] == f"ok {worker.beam} here and on the workers"
    (tmp_path / "Dockerfile.worker").write_text("ARG PYTHON=3.8\nARG BEAM=2.71.0\n")
    monkeypatch.setattr(images, "_LAUNCH", tmp_path)
    here = ".".join(map(str, sys.version_info[:2]))
    assert worker_findings(OWN_WORKER) == {
        "python": f"failure {here} here, 3.8 in launch/Dockerfile.worker: build the image with --build-arg "
        f"PYTHON={here}",
        "beam": f"failure {worker.beam} here, 2.71.0 in launch/Dockerfile.worker: build the image with --build-arg "
        f"BEAM={worker.beam}",
    }
    (tmp_path / "Dockerfile.worker").unlink()
    assert worker_findings(OWN_WORKER) == {
        "beam": f"failure {tmp_path}/Dockerfile.worker does not exist: run this command from a checkout of the project"
    }


PUBLIC = "docker.io/tensorflow/tensorflow:2.21.0"


def test_the_public_image_has_the_versions_of_its_record() -> None:
    found = trainer_findings()
    assert found["trainer image"] == f"ok {PUBLIC}-gpu, in which the job installs the package with constraints.txt"
    assert found["trainer python"] == f"ok 3.11 in {PUBLIC}-gpu; the trainer supports >=3.10"
    assert found["tensorflow"].startswith(f"ok 2.21.0 in {PUBLIC}-gpu, 2.")
    assert found["keras"].startswith(f"ok {images.public_image(has_gpus=True).keras} in {PUBLIC}-gpu, 3.")
    assert trainer_findings("--accelerator=none")["tensorflow"].startswith(f"ok 2.21.0 in {PUBLIC}, 2.")


def test_a_public_image_that_the_trainer_can_not_run_in_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = replace(image.PUBLIC, python="3.8", tensorflow="2.8.0")
    monkeypatch.setattr(image, "PUBLIC", old)
    monkeypatch.setattr(images, "PUBLIC", old)
    assert trainer_findings()["trainer image"].startswith(
        "failure constraints.txt has tensorflow==2.21.0, and the image docker.io/tensorflow/tensorflow:2.8.0 has 2.8.0"
    )
    (tmp_path / "constraints.txt").write_text("tensorflow==2.8.0\nkeras==2.8.0\n")
    for module in (image, images):
        monkeypatch.setattr(module, "CONSTRAINTS", tmp_path / "constraints.txt")
    found, name = trainer_findings(), f"{old.uri(has_gpus=True)}"
    assert found["trainer python"] == f"failure 3.8 in {name}, but the trainer supports >=3.10: set --container"
    assert found["tensorflow"] == (f"failure 2.8.0 in {name}, but the trainer supports <2.22,>=2.17: set --container")


def test_the_tag_of_the_public_image_is_looked_up() -> None:
    hub = FakeGoogle()
    endpoint = f"--endpoint={hub.start()}"
    assert found_by("image tag", endpoint) == {"image tag": f"ok Docker Hub has {PUBLIC}-gpu, pushed on 2026-03-09"}
    assert found_by("image tag", endpoint, "--accelerator=none") == {
        "image tag": f"failure Docker Hub has no {PUBLIC}: set --container or --build_container"
    }
    hub.refusals = {"GET /v2/": (429, "Too many requests")}
    assert found_by("image tag", endpoint) == {"image tag": "skipped Docker Hub answered 429; try again later"}


def test_a_tpu_has_no_public_image() -> None:
    message = f"failure {PUBLIC} has no support for TPUs: set --container or --build_container"
    assert trainer_findings("--accelerator=TPU_V3") == {"trainer image": message}


def test_an_older_keras_here_than_in_the_image_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = images.trainer_image(is_tpu=False).keras
    assert trainer_findings(OWN_TRAINER)["keras"].startswith(f"ok {there} in launch/Dockerfile.trainer, ")
    install(tmp_path, monkeypatch, "keras", "3.5.0")
    assert trainer_findings(OWN_TRAINER)["keras"] == (
        f"warning 3.5.0 here, {there} in launch/Dockerfile.trainer: models of the job may not load here; pip install "
        f"'keras>={there}'"
    )
    monkeypatch.setattr(versions, "_installed", {}.get)
    assert trainer_findings(OWN_TRAINER)["keras"].startswith(f"skipped {there} in launch/Dockerfile.trainer; not inst")
    assert trainer_findings(OWN_TRAINER, "--accelerator=TPU_V3")["tensorflow"].startswith("skipped 2.20 in launch/")

"""The command of a job in the public image: from the request to the trainer, in a Python like that of the image."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from launch import start
from launch.vertex.rehearsal import environments
from tests.support.builds import PROJECT, build, make_flat, upload
from tests.support.fake_vertex import FakeVertex
from tests.support.faulty_storage import Front
from tests.support.images import OFFLINE, make_image
from tests.support.vertex_runs import submit
from trainer.models import MODELS, Architecture

pytest.importorskip("google.cloud.aiplatform_v1")
storage = pytest.importorskip("google.cloud.storage")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("without_transform")]

TINY = Architecture("tests.support.tiny:tiny", ("dropout",))
DATASET = "gs://street/data/booted"


@pytest.fixture(scope="module")
def dataset(front: Front, tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("data")
    make_flat(root / "flat", train=6, val=2)
    options = ("--labels=camvid11", "--image_size=32x64", "--image_encoding=uint8", "--shards=train=2,val=1")
    assert build(f"--input={root / 'flat'}", f"--output={root / 'made'}", *options) == 0
    upload(root / "made", DATASET)
    return DATASET


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image, with a model that is small."""
    row = f'trainer.models.Architecture("{TINY.builder}", ("dropout",))'
    small = f'import trainer.models; trainer.models.MODELS["tiny"] = {row}'
    return make_image(tmp_path_factory.mktemp("image"), str(PROJECT), small)


def container_of(vertex: FakeVertex) -> dict[str, Any]:
    """The ContainerSpec of the last request."""
    return dict(vertex.requests[-1][2]["jobSpec"]["workerPoolSpecs"][0]["containerSpec"])


def boot(image: Path, front: Front, container: dict[str, Any], *more: str, **variables: str) -> tuple[int, str, str]:
    """Runs the command of a request. -> the exit code, and what it printed."""
    given = {each["name"]: each["value"] for each in container["env"]}
    environment = {**os.environ, **front.for_tensorflow, **OFFLINE, **given, **variables}
    environment["PATH"] = f"{image / 'bin'}:{os.environ['PATH']}"
    environment.pop("PYTHONPATH", None)
    command = [*container["command"], *container["args"], *more]
    done = subprocess.run(command, env=environment, cwd=image, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_the_command_of_a_request_starts_the_trainer(image: Path, front: Front, dataset: str) -> None:
    vertex = FakeVertex()
    assert submit(vertex, "--accelerator=none", dataset=dataset) == 0
    code, out, err = boot(image, front, container_of(vertex), "--help", TMPDIR=str(image))
    assert code == 0, err
    assert out.startswith("usage: python -m trainer.task"), err
    (made,) = image.glob("street-scenes-*/venv/lib/python*/site-packages")
    assert (made / "trainer" / "task.py").is_file(), "the sdist is installed beside the image"
    assert not list(made.glob("tensorflow*")), "and the image's TensorFlow is not replaced"


@pytest.mark.torture
def test_a_whole_training_in_the_image(
    image: Path, front: Front, dataset: str, monkeypatch: pytest.MonkeyPatch, bucket: str
) -> None:
    monkeypatch.setitem(MODELS, "tiny", TINY)
    vertex, output = FakeVertex(), "gs://street/runs/booted"
    options = ("--accelerator=none", "--model=tiny", "--steps=4", f"--output={output}")
    assert submit(vertex, *options, dataset=dataset) == 0
    code, out, err = boot(image, front, container_of(vertex), **environments(output, 1)[0])
    assert code == 0, out + err
    names = {blob.name for blob in storage.Client().list_blobs("street", prefix="runs/booted/")}
    assert {
        "runs/booted/model/saved_model.pb",
        "runs/booted/best.keras",
        "runs/booted/report-val/metrics.json",
    } <= names


@pytest.mark.torture
def test_libraries_are_installed_for_gpus_and_a_host_without_them_is_refused(
    image: Path, front: Front, dataset: str, tmp_path: Path
) -> None:
    libraries = start.requirements_of(importlib.metadata.requires("tensorflow") or (), ("and-cuda",))
    assert len(libraries) > 5
    for requirement in libraries:
        make_wheel(tmp_path, *re.findall(r"^([\w-]+).*>=([\d.]+)", requirement)[0])
    vertex = FakeVertex()
    assert submit(vertex, dataset=dataset) == 0
    where = {"PIP_FIND_LINKS": str(tmp_path), "TMPDIR": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    code, _, err = boot(image, front, container_of(vertex), **where)
    assert code == 1
    assert err.splitlines()[-1] == (
        "error: TensorFlow finds 0 of the 1 GPUs of this host; set --build_container, or --container to an image built "
        "from launch/Dockerfile.trainer"
    )
    assert list(tmp_path.glob("street-scenes-*/venv/lib/python*/site-packages/nvidia/cudnn/lib/libcudnn.so"))


def make_wheel(folder: Path, name: str, version: str) -> None:
    """A wheel of NVIDIA's, as far as its name and its place go."""
    part = name.removeprefix("nvidia-").removesuffix("-cu12").replace("-", "_")
    stem = f"{name.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    files = {
        f"nvidia/{part}/lib/lib{part}.so": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
        for path, content in files.items():
            wheel.writestr(path, content)
        wheel.writestr(f"{info}/RECORD", "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"]))


def test_a_file_that_can_not_be_read_is_told(image: Path, front: Front, dataset: str) -> None:
    vertex = FakeVertex()
    assert submit(vertex, "--accelerator=none", dataset=dataset) == 0
    container = container_of(vertex)
    container["args"][0] = "gs://street/nothing.tar.gz"
    code, _, err = boot(image, front, container)
    assert code == 1
    assert "error: gs://street/nothing.tar.gz could not be read: " in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        ("tensorflow==2.1.0\n", r"constraints.txt 2.1.0: set --container"),
        ("tensorflow-metadata==1.21.0\n", r"constraints.txt \(none\): set --container"),
    ],
)
def test_another_tensorflow_than_the_constraints_is_refused(
    constraints: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "constraints.txt").write_text(constraints)
    assert start.install([f"--constraints={tmp_path / 'constraints.txt'}", "--dataset=d"]) == 1
    here = importlib.metadata.version("tensorflow")
    assert re.match(f"error: the image has TensorFlow {here}, and {message}", capsys.readouterr().err)


def test_installed_libraries_come_before_those_of_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("cudnn/lib", "cublas/lib", "cuda_nvcc/bin"):
        (tmp_path / "nvidia" / part).mkdir(parents=True)
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    monkeypatch.setenv("LD_LIBRARY_PATH", "/usr/local/nvidia/lib64")
    monkeypatch.setenv("PATH", "/usr/bin")
    found = start._environment()
    nvidia = tmp_path / "nvidia"
    assert found["LD_LIBRARY_PATH"] == f"{nvidia / 'cublas/lib'}:{nvidia / 'cudnn/lib'}:/usr/local/nvidia/lib64"
    assert found["PATH"] == f"{nvidia / 'cuda_nvcc/bin'}:/usr/bin"

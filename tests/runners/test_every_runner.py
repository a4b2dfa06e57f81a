"""The same command on every runner that is here gives the same bytes; a worker that is killed costs what it was at.

`make runners` brings the runners; what is missing is skipped. The worker pool runs Beam's own container boot: it gets
the staged package, installs it into an empty virtual environment and starts the worker there, so that pickling, imports
and staging are those of a cluster.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console
from rich.table import Table

from tests.support.builds import PROJECT, SHOWN, Published, file_names, make_uneven, published

pytest.importorskip("apache_beam")

BROUGHT = PROJECT / os.environ.get("RUNNERS", ".runners") / importlib.metadata.version("apache-beam")
LOCAL = {
    "one thread": ["--runner=FnApiRunner", "--direct_num_workers=1"],
    "threads": ["--runner=FnApiRunner", "--direct_num_workers=2", "--direct_running_mode=multi_threading"],
    "processes": ["--runner=FnApiRunner", "--direct_num_workers=2", "--direct_running_mode=multi_processing"],
}
PORTABLE = ["Prism", "DirectRunner on Prism", "Flink"]
POOLED = ["Prism, pool", "Flink, pool"]


@dataclass(frozen=True)
class Pool:
    """A worker pool in a process of its own; `environment` is the virtual environment of its workers."""

    process: subprocess.Popen[str] | subprocess.Popen[bytes]
    port: int
    environment: Path


def brought(name: str) -> Path:
    path = BROUGHT / name
    if not path.exists():
        pytest.skip(f"{path} does not exist: `make runners` brings it, or says why it can't be had")
    return path


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    boot, folder = brought("boot"), tmp_path_factory.mktemp("pool")
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    (site,) = environment.glob("lib/python*/site-packages")
    # As in a container Beam, numpy and the like are at hand; this project is not: it hangs on a .pth file of its own.
    (site / "installed.pth").write_text(sysconfig.get_path("purelib"))
    (folder / "boot").write_text(f'#!/bin/sh\nexec {boot} --semi_persist_dir={folder} "$@"\n')
    (folder / "boot").chmod(0o755)
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    command = [str(environment / "bin" / "python"), "-m", "apache_beam.runners.worker.worker_pool_main"]
    command += [f"--service_port={port}", f"--container_executable={folder / 'boot'}"]
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    variables |= {"PATH": f"{environment / 'bin'}:{os.environ['PATH']}", "RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT": "1"}
    with open(folder / "log", "wb") as log:
        pipes: dict[str, Any] = {"stdout": log, "stderr": log, "start_new_session": True}
        with subprocess.Popen(command, cwd=folder, env=variables, **pipes) as process:
            try:
                while not _is_open(port):
                    assert process.poll() is None, (folder / "log").read_text()
                    time.sleep(0.05)
                yield Pool(process, port, site)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)


def _is_open(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("localhost", port), timeout=1):
        return True
    return False


@pytest.fixture
def options_of(request: pytest.FixtureRequest) -> Callable[[str], list[str]]:
    """What the command takes to run on a runner. Skips where it is not here."""

    def options(runner: str) -> list[str]:
        if runner in LOCAL:
            return LOCAL[runner]
        name, _, pooled = runner.partition(", ")
        if name == "Flink":
            jar = brought("flink-job-server.jar")
            if not shutil.which("java"):
                pytest.skip("Flink needs java, and there is none on the PATH")
            found = ["--runner=FlinkRunner", "--flink_master=[local]", f"--flink_job_server_jar={jar}"]
            found.append("--parallelism=2")
        else:
            runner = "PrismRunner" if name == "Prism" else "DirectRunner"
            found = [f"--runner={runner}", f"--prism_location={brought('prism')}"]
        if pooled:
            port = request.getfixturevalue("pool").port
            found += ["--environment_type=EXTERNAL", f"--environment_config=localhost:{port}"]
            found.append(f"--setup_file={PROJECT / 'setup.py'}")
        return found

    return options


def started(source: Path, output: Path, shards: str, options: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "beam_pipelines.build", f"--input={source}", f"--output={output}"]
    command += ["--labels=camvid11", "--image_size=native", f"--shards={shards}", *options]
    return subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> tuple[str, str]:
    printed, errors = process.communicate(timeout=200)
    assert process.returncode == 0, printed + errors
    return printed, errors


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_uneven(tmp_path_factory.mktemp("flat"), train=9, val=4)


@pytest.fixture(scope="module")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Published]:
    """Runner -> what its data set shares with all others; one thread's, to which the tests add theirs."""
    output = tmp_path_factory.mktemp("one_thread")
    finished(started(source, output, "train=4,val=2", LOCAL["one thread"]))
    return {"one thread": published(output)}


@pytest.mark.parametrize("runner", ["threads", "processes", *PORTABLE, *POOLED])
def test_a_runner_builds(
    runner: str,
    options_of: Callable[[str], list[str]],
    source: Path,
    tmp_path: Path,
    built: dict[str, Any],
    request: pytest.FixtureRequest,
) -> None:
    options = options_of(runner)
    _, errors = finished(started(source, tmp_path, "train=4,val=2", [*options, "--verbose"]))
    assert ("PrismRunner" in errors) == ("Prism" in runner)  # DirectRunner falls back where it can't have Prism
    if runner in POOLED:
        assert list(request.getfixturevalue("pool").environment.glob("street_scenes-*.dist-info"))
    built[runner] = published(tmp_path)
    assert built[runner] == built["one thread"]


def test_the_digests_side_by_side(built: dict[str, Any], record_property: Callable[[str, object], None]) -> None:
    if len(built) == 1:
        pytest.skip("no other runner built in this run")
    table = Table("", *built, title=f"SHA-256 of what each runner wrote, its first 8 digits ({len(built)} runners)")
    rows = {
        runner: digests | others | {"dataset.json": _digest(manifest)}
        for runner, (digests, manifest, others) in built.items()
    }
    for name in rows["one thread"]:
        digests = [row[name][:8] for row in rows.values()]
        assert len(set(digests)) == 1, name
        table.add_row(name, *digests)
    shown = io.StringIO()
    Console(file=shown, width=40 + 14 * len(built)).print(table)
    record_property(SHOWN, shown.getvalue())


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Pictures, and a data set of them before one was replaced and one was added."""
    source, output = make_uneven(tmp_path_factory.mktemp("growing"), train=5, val=2), tmp_path_factory.mktemp("before")
    finished(started(source, output, "train=2,val=1", LOCAL["one thread"]))
    for kind in ("images", "masks"):
        folder = source / kind / "train"
        shutil.copy(folder / "train_0001.png", folder / "new.png")
        shutil.copy(folder / "train_0001.png", folder / "train_0003.png")
    return source, output


@pytest.fixture(scope="module")
def updated(grown: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Published:
    return _updated(grown, tmp_path_factory.mktemp("one_thread"), LOCAL["one thread"])


def _updated(grown: tuple[Path, Path], output: Path, options: list[str]) -> Published:
    source, before = grown
    shutil.copytree(before, output, dirs_exist_ok=True)
    finished(started(source, output, "train=2,val=1", [*options, "--update"]))
    return published(output)


@pytest.mark.parametrize("runner", ["processes", "Prism", "Flink"])
def test_a_runner_updates(
    runner: str,
    options_of: Callable[[str], list[str]],
    grown: tuple[Path, Path],
    updated: Published,
    tmp_path: Path,
) -> None:
    found = _updated(grown, tmp_path, options_of(runner))
    assert found == updated
    assert len(found[1]["additions"]["updates"]) == 1


def _digest(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


@pytest.fixture(scope="module")
def long_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough work that a worker is in the middle of it when it is killed."""
    return make_uneven(tmp_path_factory.mktemp("long"), train=30, val=4, size=(256, 512))


@pytest.fixture(scope="module")
def undisturbed(long_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    output = tmp_path_factory.mktemp("undisturbed")
    finished(started(long_source, output, "train=15,val=2", LOCAL["threads"]))
    return published(output)


@pytest.mark.parametrize("runner", ["processes", *POOLED])
def test_a_killed_worker_costs_what_it_was_at(
    runner: str,
    options_of: Callable[[str], list[str]],
    long_source: Path,
    tmp_path: Path,
    undisturbed: Any,
    request: pytest.FixtureRequest,
) -> None:
    options = options_of(runner)
    with started(long_source, tmp_path, "train=15,val=2", options) as process:
        parent = request.getfixturevalue("pool").process.pid if runner in POOLED else process.pid
        while not list(tmp_path.glob("_build/staged/*.json")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.005)
        workers = workers_of(parent)
        workers[0].kill()
        assert not (tmp_path / "dataset.json").exists()
        printed, _ = finished(process)
    if not runner.startswith("Flink"):  # which may try again by itself
        assert "; continuing from the finished shards" in printed
    assert published(tmp_path) == undisturbed
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == file_names(undisturbed[0])
    for _ in range(200):  # a pool stops its workers after the job's end
        if not (left := [*filter(is_alive, workers), *workers_of(parent)]):
            break
        time.sleep(0.1)
    assert not left


def workers_of(pid: int) -> list[psutil.Process]:
    """Worker processes below the process `pid`, the shells around them left out; none where it has ended."""
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for each in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # it ended meanwhile
                if each.cmdline()[-1:] == ["apache_beam.runners.worker.sdk_worker_main"]:
                    found.append(each)
    return found


def is_alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def test_a_worker_pool_that_is_not_there_is_a_sentence(
    options_of: Callable[[str], list[str]], source: Path, tmp_path: Path
) -> None:
    options = [*options_of("Prism"), "--environment_type=EXTERNAL", "--environment_config=localhost:1"]
    with started(source, tmp_path, "train=1,val=1", options) as process:
        _, errors = process.communicate(timeout=100)
    assert process.returncode == 1
    assert errors.startswith("error: the runner stopped responding (UNAVAILABLE: ")
    assert errors.count("\n") == 1

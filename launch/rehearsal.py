"""The job on this machine: the same sdist in a virtual environment, started as Vertex AI starts it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import site
import socket
import subprocess
import tempfile
import time
import venv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

from beam_pipelines.contract.manifest import FILE_NAME
from launch.checks.dataset import check_size, local_reader, open_dataset
from launch.errors import LaunchError
from launch.jobs import PREBUILT_MODULE
from launch.options import LaunchSettings
from launch.package import build_sdist

_GRACE_SECONDS = 30.0  # between SIGTERM and SIGKILL, as on Vertex AI


def rehearse(settings: LaunchSettings) -> int:
    """Runs the job's hosts as processes here. -> 0, 1, or 128 + the number of the signal that stopped them.

    Raises:
      LaunchError: the data set can't be trained on, the sdist can't be built or installed, or a host failed.
    """
    dataset, size = settings.train.dataset, settings.train.crop_size
    if "://" not in dataset:  # before minutes of installing
        splits = (settings.train.train_split, settings.train.val_split)
        manifest = open_dataset(dataset, local_reader(dataset)[1](FILE_NAME), splits, settings.hosts_here)
        check_size(manifest, dataset, size is not None)
    with tempfile.TemporaryDirectory() as scratch:
        sdist = build_sdist(Path(scratch))
        python = _make_environment(settings, Path(scratch))
        _install(python, sdist, settings.reuse_packages)
        command = [str(python), "-I", "-m", PREBUILT_MODULE, *settings.job.trainer_options]
        return _run(command, environments(settings.job.output, settings.hosts_here))


def environments(output: str, hosts: int) -> list[dict[str, str]]:
    """The variables that Vertex AI sets for each host, chief first; the hosts are ports of this machine."""
    addresses = [f"127.0.0.1:{port}" for port in _free_ports(hosts)]
    folders = {
        "AIP_MODEL_DIR": f"{output}/model/",
        "AIP_CHECKPOINT_DIR": f"{output}/checkpoints/",
        "AIP_TENSORBOARD_LOG_DIR": f"{output}/logs/",
        "CLOUD_ML_JOB_ID": "local",
    }
    pools = {"TF_CONFIG": ("chief", "worker"), "CLUSTER_SPEC": ("workerpool0", "workerpool1")}
    return [
        folders | {variable: json.dumps(_cluster(addresses, names, index)) for variable, names in pools.items()}
        for index in range(hosts)
    ]


def _cluster(addresses: Sequence[str], pools: tuple[str, str], index: int) -> dict[str, object]:
    """Of the host `index`: the first is the chief, the others are workers."""
    cluster = {pools[0]: addresses[:1]} | ({pools[1]: addresses[1:]} if len(addresses) > 1 else {})
    task = {"type": pools[min(index, 1)], "index": max(index - 1, 0)}
    return {"cluster": cluster, "environment": "cloud", "task": task}


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _make_environment(settings: LaunchSettings, scratch: Path) -> Path:
    """-> its Python."""
    if settings.reuse_packages:
        folder = scratch / "venv"
        venv.create(folder)
        (packages,) = folder.glob("lib/python*/site-packages")
        # Not venv's system_site_packages: of a virtual environment that is the Python below it.
        (packages / "running.pth").write_text("\n".join(site.getsitepackages()), encoding="utf-8")
    else:
        folder = Path(settings.venv).absolute()
        if not _has_pip(folder / "bin" / "python"):  # it comes last: an environment without it was interrupted
            print(f"installing the trainer into {settings.venv}: minutes, 2 GB, once", flush=True)
            venv.create(folder, with_pip=True)
    return folder / "bin" / "python"


def _has_pip(python: Path) -> bool:
    command = [str(python), "-I", "-m", "pip", "--version"]
    return python.exists() and subprocess.run(command, capture_output=True, check=False).returncode == 0


def _install(python: Path, sdist: Path, reuse_packages: bool) -> None:
    """As a prebuilt image does it, and the trainer's extra as well: its hosts would all do that in one place here."""
    pip = [str(python), "-I", "-m", "pip", "install", "--quiet"]
    offline = ["--no-build-isolation", "--no-index"] if reuse_packages else []
    for arguments in (["--force-reinstall", "--no-deps", str(sdist)], [f"{sdist}[trainer]"]):
        done = subprocess.run([*pip, *offline, *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            lines = [line.strip() for line in done.stderr.strip().splitlines()] or ["no message"]
            reason = next((line for line in lines if line.startswith("ERROR: ")), lines[-1]).removeprefix("ERROR: ")
            raise LaunchError(f"pip could not install {sdist.name}: {reason}")


def _run(command: Sequence[str], hosts: Sequence[Mapping[str, str]]) -> int:
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # Sessions of their own: Ctrl-C comes here first, and is passed on once.
    processes = [subprocess.Popen(command, env={**inherited, **host}, start_new_session=True) for host in hosts]
    with _passing_on(processes) as received:
        try:
            while processes[0].poll() != 0 and not any(process.poll() for process in processes):
                if received and time.monotonic() > _deadline(received):
                    break  # they hang
                time.sleep(0.1)
            if received:
                _wait(processes, _deadline(received))
        finally:
            codes = [process.poll() for process in processes]  # before the others are stopped because of one
            _end(processes)
    if received and (codes[0] is None or any(codes)):
        return 128 + next(iter(received))
    failed = [f"{_name(index)} {_fate(code)}" for index, code in enumerate(codes) if code]
    if failed:
        raise LaunchError(f"{'; '.join(failed)}. The same command goes on at the newest checkpoint")
    return 0


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ends those that still run: a finished or a lost host ends the job."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    _wait(processes, time.monotonic() + _GRACE_SECONDS)
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()


def _deadline(received: Mapping[int, float]) -> float:
    """By when those that were sent a signal must have ended, on the clock of time.monotonic."""
    return min(received.values()) + _GRACE_SECONDS


def _wait(processes: Sequence[subprocess.Popen[bytes]], deadline: float) -> None:
    while time.monotonic() < deadline and any(process.poll() is None for process in processes):
        time.sleep(0.1)


@contextlib.contextmanager
def _passing_on(processes: Sequence[subprocess.Popen[bytes]]) -> Iterator[dict[int, float]]:
    """Sends SIGINT and SIGTERM on to the processes. Yields signal -> when it came first, which fills as they come."""
    received: dict[int, float] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        received.setdefault(number, time.monotonic())
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _name(index: int) -> str:
    return "the chief" if index == 0 else f"worker {index - 1}"


def _fate(code: int) -> str:
    return f"failed with exit code {code}" if code > 0 else f"was killed by {signal.Signals(-code).name}"

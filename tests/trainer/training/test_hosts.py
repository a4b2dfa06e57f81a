"""Whole training runs on two hosts: two processes on this machine."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.runs import assert_same, command, start, wait_for

pytestmark = pytest.mark.timeout(900)


def two_hosts(dataset: Path, output: Path, variable: str, *arguments: str) -> list[subprocess.Popen[str]]:
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    first, second = ("chief", "worker") if variable == "TF_CONFIG" else ("workerpool0", "workerpool1")
    cluster = {first: [f"127.0.0.1:{ports[0]}"], second: [f"127.0.0.1:{ports[1]}"]}
    return [
        start(
            command(dataset, output, *arguments),
            **{variable: json.dumps({"cluster": cluster, "task": {"type": kind, "index": 0}})},
        )
        for kind in (first, second)
    ]


def finish(hosts: list[subprocess.Popen[str]], code: int = 0) -> list[str]:
    printed = []
    for host in hosts:
        out, err = host.communicate(timeout=400)
        assert host.returncode == code, out + err
        printed.append(out)
    return printed


def test_two_hosts_train_stop_together_and_go_on(dataset: Path, tmp_path: Path) -> None:
    """When they go on they find each other by what Vertex AI sets."""
    arguments = ("--epochs=20", "--evaluate_epochs=10", "--deterministic", "--steps_per_call=1")
    finish(two_hosts(dataset, tmp_path / "whole", "TF_CONFIG", *arguments))
    hosts = two_hosts(dataset, tmp_path / "run", "TF_CONFIG", *arguments)
    wait_for(tmp_path / "run", 4, hosts[0])
    hosts[1].send_signal(signal.SIGTERM)  # any of them may be the one that is preempted
    printed = finish(hosts, 128 + signal.SIGTERM)
    assert "which is saved" in printed[0]
    assert not printed[1], "only the chief speaks"
    printed = finish(two_hosts(dataset, tmp_path / "run", "CLUSTER_SPEC", *arguments))
    assert "MultiWorkerMirroredStrategy, 2 replicas on CPU; global batch 4 = 2 x 2" in printed[0]
    assert "resuming at step" in printed[0]
    assert_same(tmp_path / "run", tmp_path / "whole")
    assert (tmp_path / "run" / "export" / "saved_model.pb").exists()
    often = ("--epochs=200", "--evaluate_epochs=1", "--patience=1", *arguments[2:])
    printed = finish(
        two_hosts(dataset, tmp_path / "run", "TF_CONFIG", *often)
    )  # if one went on, it would wait for long
    assert "was complete after 100 updates and is made longer, to 1,000" in printed[0]
    assert re.search(r"stopped early at step \d+: no better validation mean IoU for 1 evaluation \(best", printed[0])


def test_a_host_that_is_killed_ends_the_other_with_what_to_do(dataset: Path, tmp_path: Path) -> None:
    arguments = ("--epochs=500", "--evaluate_epochs=500", "--checkpoint_steps=2", "--steps_per_call=1")
    hosts = two_hosts(dataset, tmp_path / "run", "TF_CONFIG", *arguments)
    wait_for(tmp_path / "run", 4, hosts[0])
    hosts[1].kill()
    hosts[1].communicate()
    _, err = hosts[0].communicate(timeout=200)
    assert hosts[0].returncode == 1, err
    assert "error: another host of this run was lost" in err
    assert "Traceback" not in err
    assert list((tmp_path / "run" / "checkpoints").glob("ckpt-*.index"))

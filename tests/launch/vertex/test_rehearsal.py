"""A job's hosts on this machine: they train from the sdist, are killed and stopped, go on and export."""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
import site
import subprocess
import sys
import threading
import time
import venv
from pathlib import Path
from typing import Any

import psutil
import pytest

from launch import start
from launch.errors import LaunchError
from launch.vertex import hosts as hosts_module
from launch.vertex.__main__ import main
from launch.vertex.environment import MARK, check_environment, kept_environment
from launch.vertex.rehearsal import environments
from tests.support.builds import PROJECT, build, make_flat, upload
from trainer.config import parse_train

pytestmark = pytest.mark.usefixtures("without_transform")

# The launcher with one more model in the table, as small as that of the trainer's tests.
LAUNCH = """
import sys
from launch.vertex.__main__ import main
from trainer.models import MODELS, Architecture
MODELS["tiny"] = Architecture("tests.support.tiny:tiny", ("dropout",))
sys.exit(main())
"""
# No index, and no environment to build in that would have to be downloaded: pip finds what it needs here, or fails.
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    make_flat(root / "flat", train=18, val=6)
    options = ("--labels=camvid11", "--image_size=32x64", "--image_encoding=uint8", "--shards=train=4,val=2")
    assert build(f"--input={root / 'flat'}", f"--output={root / 'made'}", *options) == 0
    return root / "made"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the packages of the running one and the small model, but without this project."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    venv.create(folder)
    (folder / MARK).touch()
    (packages,) = folder.glob("lib/python*/site-packages")
    row = 'trainer.models.Architecture("tests.support.tiny:tiny", ("dropout",))'
    small = f'import trainer.models; trainer.models.MODELS["tiny"] = {row}'
    (packages / "running.pth").write_text("\n".join([*site.getsitepackages(), str(PROJECT), small]))
    return folder


def launch(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", LAUNCH, *arguments],
        cwd=PROJECT,
        env={**os.environ, **OFFLINE},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def hosts_of(launcher: subprocess.Popen[str]) -> dict[str, psutil.Process]:
    """The processes that train, by the role that TF_CONFIG gives them."""
    found = {}
    for process in psutil.Process(launcher.pid).children(recursive=True):
        if "trainer.task" in process.cmdline():
            found[json.loads(process.environ()["TF_CONFIG"])["task"]["type"]] = process
    return found


def wait_for_step(run: Path, step: int, launcher: subprocess.Popen[str]) -> None:
    """Until the run has logged that step, or a later one."""
    deadline = time.monotonic() + 150
    while time.monotonic() < deadline:
        assert launcher.poll() is None, launcher.communicate()
        path = run / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        if lines and json.loads(lines[-1])["step"] >= step:
            return
        time.sleep(0.05)
    raise AssertionError(f"step {step} did not come")


@pytest.mark.torture
@pytest.mark.timeout(600)
def test_two_hosts_are_killed_and_stopped_and_go_on_to_the_export(
    dataset: Path, environment: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command = ("--local=2", f"--venv={environment}", f"--dataset={dataset}", f"--output={run}", "--model=tiny")
    steps = ("--steps=60", "--checkpoint_steps=2", "--log_steps=1", "--steps_per_call=1", "--global_batch=4")

    launcher = launch(*command, *steps)
    wait_for_step(run, 4, launcher)
    hosts = hosts_of(launcher)
    assert hosts.keys() == {"chief", "worker"}
    hosts["worker"].kill()
    _, err = launcher.communicate(timeout=120)
    assert launcher.returncode == 1, err
    assert "worker 0 was killed by SIGKILL" in err
    assert "Run the same command again to resume from the latest checkpoint" in err
    assert not [host for host in hosts.values() if host.is_running()], "a job ends with all of its hosts"

    launcher = launch(*command, *steps)
    wait_for_step(run, 8, launcher)
    launcher.send_signal(signal.SIGTERM)
    out, err = launcher.communicate(timeout=120)
    assert launcher.returncode == 128 + signal.SIGTERM, err
    assert "resuming at step" in out
    assert "which is saved; run the same command again to resume" in out

    launcher = launch(*command, *steps)
    out, err = launcher.communicate(timeout=240)
    assert launcher.returncode == 0, err
    assert "resuming at step" in out
    assert "2 replicas on CPU; global batch 4 = 2 x 2" in out
    assert [row["step"] for row in rows(run) if row["split"] == "train"] == list(range(1, 61))
    for part in ("model/saved_model.pb", "checkpoints/checkpoint", "best.keras", "report-val/metrics.json"):
        assert (run / part).exists(), part
    assert list((run / "logs").glob("events.*"))
    which = [str(environment / "bin" / "python"), "-I", "-c", "import trainer.task; print(trainer.task.__file__)"]
    trained_by = subprocess.run(which, capture_output=True, text=True, check=True).stdout
    assert trained_by.startswith(str(environment)), "the sdist trained, not the checkout"


def test_hosts_that_hang_after_a_signal_are_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deaf = "import os, pathlib, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    deaf += "pathlib.Path(sys.argv[1], os.environ['HOST']).write_text(str(os.getpid())); time.sleep(60)"

    def stop() -> None:
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(hosts_module, "GRACE_SECONDS", 0.5)
    started = time.monotonic()
    threading.Thread(target=stop, daemon=True).start()
    hosts = [{"HOST": "chief"}, {"HOST": "worker"}]
    assert hosts_module.run_hosts([sys.executable, "-c", deaf, str(tmp_path)], hosts) == 128 + signal.SIGTERM
    assert time.monotonic() - started < 20
    assert not [path for path in tmp_path.iterdir() if psutil.pid_exists(int(path.read_text()))]


@pytest.mark.parametrize("second", ["does not start", "is interrupted"])
def test_hosts_are_ended_if_not_all_of_them_are_started(
    second: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        if started and second == "does not start":
            raise OSError("no memory for another process")
        started.append(popen(*arguments, **options))
        if len(started) == 2:
            signal.raise_signal(signal.SIGINT)
        return started[-1]

    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", start)
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    if second == "does not start":
        with pytest.raises(OSError, match="no memory"):
            hosts_module.run_hosts(sleep, [{}, {}])
    else:
        assert hosts_module.run_hosts(sleep, [{}, {}, {}]) == 128 + signal.SIGINT
    assert [process.poll() is None for process in started] == [False] * len(started)


def rows(run: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_host_that_fails_ends_the_rehearsal_in_an_environment_that_is_not_kept(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    launcher = launch("--local", "--reuse_packages", f"--dataset={dataset}", f"--output={tmp_path / 'run'}")
    out, err = launcher.communicate(timeout=120)
    assert launcher.returncode == 1
    assert "can't be created: " in err, "the trainer's own sentence"
    assert err.splitlines()[-1].startswith("error: the chief failed with exit code 1.")
    assert "Traceback" not in out + err


def test_each_host_gets_what_vertex_ai_would_tell_it() -> None:
    hosts = environments("gs://street/run", 3)
    found = [parse_train(["--dataset=d"], host) for host in hosts]
    assert [(config.cluster.kind, config.cluster.index) for config in found] == [
        ("chief", 0),
        ("worker", 0),
        ("worker", 1),
    ]
    assert [config.cluster.is_chief for config in found] == [True, False, False]
    assert found[0].cluster.hosts == found[2].cluster.hosts
    assert len({address for pool in found[0].cluster.hosts.values() for address in pool}) == 3
    assert {config.places.output for config in found} == {"gs://street/run"}
    assert (found[0].places.checkpoints, found[0].places.logs) == (
        "gs://street/run/checkpoints",
        "gs://street/run/logs",
    )
    assert found[0].places.export == "gs://street/run/model"
    for host, config in zip(hosts, found, strict=True):
        del host["TF_CONFIG"]
        assert parse_train(["--dataset=d"], host).cluster == config.cluster, "CLUSTER_SPEC says the same"


def test_a_single_host_is_a_chief_alone() -> None:
    (host,) = environments("out/run", 1)
    assert list(json.loads(host["TF_CONFIG"])["cluster"]) == ["chief"]
    assert parse_train(["--dataset=d"], host).cluster.workers == 1


def test_requirements_that_can_not_be_installed_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: ["numpy", 'not-to-be-had>=1; extra == "trainer"'])
    assert start.main() == 1
    assert "error: the requirements (not-to-be-had>=1) could not be installed" in capsys.readouterr().err


def test_a_data_set_that_is_not_there_is_told_before_anything_is_installed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = (f"--output={tmp_path / 'run'}", f"--venv={tmp_path / 'venv'}", "--local")
    assert main([*place, f"--dataset={tmp_path}"]) == 1
    assert f"error: {tmp_path} has no dataset.json: there is no data set" in capsys.readouterr().err
    assert not (tmp_path / "venv").exists()


def test_a_data_set_that_is_not_in_its_bucket_is_told_before_anything_is_installed(
    bucket: str, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = (f"--output={tmp_path / 'run'}", f"--venv={tmp_path / 'venv'}", "--local")
    assert main([*place, f"--dataset={bucket}/nothing"]) == 1
    assert f"error: {bucket}/nothing has no dataset.json: there is no data set" in capsys.readouterr().err
    upload(dataset, f"{bucket}/made")
    assert main([*place, f"--dataset={bucket}/made", "--val_split=tests"]) == 1
    assert "--val_split" in capsys.readouterr().err
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    assert main([*place, f"--dataset={bucket}/nothing"]) == 1, "a public bucket needs no account"
    assert f"error: {bucket}/nothing has no dataset.json: there is no data set" in capsys.readouterr().err
    assert not (tmp_path / "venv").exists()


def test_data_sets_that_can_not_be_mixed_are_told_before_anything_is_installed(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    value = json.loads((dataset / "dataset.json").read_text())
    value["pixels"] |= {"height": 64, "width": 32}
    del value["additions"]
    (tmp_path / "dataset.json").write_text(json.dumps(value))
    place = (f"--output={tmp_path / 'run'}", f"--venv={tmp_path / 'venv'}", "--local")
    both = f"--dataset={dataset},{tmp_path}"
    assert main([*place, both]) == 1
    assert f"error: the data sets have images of several sizes: {dataset} has 32x64, " in capsys.readouterr().err
    assert main([*place, both, "--crop_size=32x32", "--sampling=class_uniform"]) == 1
    assert f"error: --sampling=class_uniform needs the index of {tmp_path}, " in capsys.readouterr().err
    assert not (tmp_path / "venv").exists()


def test_an_environment_that_was_interrupted_is_finished(tmp_path: Path) -> None:
    """Its Python is there, and no pip yet."""
    venv.create(tmp_path / "venv")
    (tmp_path / "venv" / MARK).touch()
    python = kept_environment(str(tmp_path / "venv"))
    subprocess.run([str(python), "-I", "-m", "pip", "--version"], check=True, capture_output=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("file", ["bin/activate", "pyvenv.cfg", "notes.txt", ".hidden"])
def test_a_folder_of_somebody_else_is_refused_and_stays_as_it_is(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    (mine / file).parent.mkdir(parents=True)
    (mine / file).write_text("my own")
    before = contents(mine)
    place = (f"--output={tmp_path / 'run'}", f"--dataset={tmp_path}", "--local")
    with pytest.raises(SystemExit) as stopped:
        main([*place, f"--venv={mine}"])
    assert stopped.value.code == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert f"--venv={mine} has files that this command did not make ({file.partition('/')[0]})" in message
    assert "choose another --venv" in message
    with pytest.raises(LaunchError, match="choose another --venv"):
        kept_environment(str(mine))
    assert contents(mine) == before


def test_a_file_or_a_dangling_link_is_no_folder_for_an_environment(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link"):
        with pytest.raises(LaunchError, match=rf"--venv=.*{name} is not a folder: choose another --venv"):
            check_environment(str(tmp_path / name))


def test_an_environment_that_failed_is_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one of which there is nothing but the mark, in a folder that was there and empty."""
    folder = tmp_path / "venv"
    folder.mkdir()
    create = venv.create
    monkeypatch.setattr(venv, "create", lambda root, **_: create(root))  # and no pip, as if it was killed
    kept_environment(str(folder))
    assert MARK in contents(folder)
    check_environment(str(folder))
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / MARK).touch()
    check_environment(str(tmp_path / "begun"))


def test_a_python_without_ensurepip_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian puts it into another package."""

    def create(*_: object, **__: object) -> None:
        raise subprocess.CalledProcessError(1, ["python", "-m", "ensurepip"])

    monkeypatch.setattr(venv, "create", create)
    with pytest.raises(LaunchError, match=r"^pip could not be installed in .*: install python3-venv and run the same"):
        kept_environment(str(tmp_path / "venv"))


def test_what_pip_could_not_do_is_told_in_a_sentence(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without an index there is nothing to build the sdist with."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    place = (f"--output={tmp_path / 'run'}", f"--venv={tmp_path / 'venv'}", "--local")
    assert main([*place, f"--dataset={dataset}"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: pip could not install street_scenes-0.1.0.tar.gz: Could not find a version that ")
    assert error.count("\n") == 1

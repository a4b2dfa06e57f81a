"""A build in a bucket that answers late, badly or not at all; and one that nobody may use."""

from __future__ import annotations

import contextlib
import http.server
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from beam_pipelines.errors import BuildError
from beam_pipelines.files import cloud, lease, storage
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.shards import ownership
from beam_pipelines.shards.plan import write_plan
from beam_pipelines.verify import main as verify
from tests.support.builds import PROJECT, build, download, file_names, make_uneven, published, upload
from tests.support.faulty_storage import Fault, Front

# Connections that were reset, which Google's client leaves to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:.*<socket.socket:pytest.PytestUnraisableExceptionWarning")

ARGUMENTS = ("--labels=camvid11", "--image_size=native", "--shards=train=2,val=1")
SHARD = "train-00001-of-00002.tfrecord"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_uneven(tmp_path_factory.mktemp("flat"), train=5, val=2)


@pytest.fixture(scope="module")
def inputs(source: Path, bucket: str, front: Front) -> str:
    upload(source, f"{bucket}/input")
    return f"{bucket}/input"


@pytest.fixture
def output(bucket: str, tmp_path: Path) -> str:
    return f"{bucket}/{tmp_path.name}/out"


@pytest.fixture(scope="module")
def local(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The digests of the shards of a build without any bucket."""
    folder = tmp_path_factory.mktemp("local")
    assert build(f"--input={source}", f"--output={folder}", *ARGUMENTS) == 0
    return published(folder)[0]


def shards(dataset: str, folder: Path) -> dict[str, str]:
    return published(download(dataset, folder))[0]


def sentence(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr."""
    errors = capsys.readouterr().err
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    return errors


# --- what passes by itself

# Each of the kinds hits requests of each sort, most of them once.
PASSING = (
    Fault("POST /upload/.*/_build/lease", "lose answer"),
    Fault("PUT /upload/.*/plan.jsonl", 503),
    Fault("GET /storage/.*/plan.jsonl", 1.5),
    Fault("GET /storage/.*/images/train/train_0001.png", 429),
    Fault("GET /download/.*/images/train/train_0002.png", 503, times=2),
    Fault("GET /download/.*/images/train/train_0003.png", "cut answer"),
    Fault("GET /download/.*/masks/train/train_0004.png", "cut request"),
    Fault("GET /download/.*/masks/val/val_0001.png", 1.5),
    Fault("POST /upload/.*/staged/train-00000-of-00002.tfrecord[.]", 429),
    Fault("PUT /upload/.*/staged/train-00001-of-00002.tfrecord[.]", "cut request"),
    Fault("PUT /upload/.*/staged/val-00000-of-00001.tfrecord[.]", 1.5),
    Fault("POST /upload/.*/staged/val-00000-of-00001.tfrecord.json", "cut answer"),
    Fault("GET /storage/.*/staged/train-00000-of-00002.tfrecord[?]", 503),
    Fault("GET /download/.*/staged/train-00001-of-00002.tfrecord", "cut answer"),
    Fault(f"PUT /upload/.*/temporary/{SHARD}[.]", "lose answer"),
    Fault("PUT /upload/.*/temporary/val-00000-of-00001.tfrecord[.]", 503, times=2),
    Fault(f"(?s)POST /batch/.*POST .*/copyTo/.*/out/{SHARD}\\?", 503),
    Fault("(?s)POST /batch/.*POST .*/copyTo/.*/out/train-00000-of-00002.tfrecord", "lose answer"),
    Fault("(?s)POST /batch/.*DELETE .*/temporary/val-00000-of-00001.tfrecord", "lose answer"),
    Fault("PUT /upload/.*/dataset.json", 429),
)
PASSING_WHEN_READ = (
    Fault("GET /storage/.*/dataset.json", 503),
    Fault("GET /storage/.*/out/train-00000-of-00002.tfrecord", "cut answer"),
    Fault(f"GET /download/.*/out/{SHARD}", "cut answer"),
    Fault("GET /download/.*/out/val-00000-of-00001.tfrecord", 429),
)


def test_what_passes_by_itself_changes_nothing(
    front: Front, inputs: str, output: str, local: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with front.making(*PASSING):
        assert build(f"--input={inputs}", f"--output={output}", *ARGUMENTS) == 0
    assert capsys.readouterr().err == ""
    assert shards(output, tmp_path / "made") == local
    assert {name.rpartition("/")[2] for name in storage.sizes(output)} == file_names(local)
    with front.making(*PASSING_WHEN_READ):
        assert verify([output]) == 0
    missed = [fault for fault in (*PASSING, *PASSING_WHEN_READ) if fault.hits != fault.times]
    assert not missed


def test_a_killed_build_goes_on(
    front: Front,
    inputs: str,
    output: str,
    local: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = (f"--input={inputs}", f"--output={output}", *ARGUMENTS)
    slowly = Fault("GET /storage/.*/o/.*/finished/", 1.0, times=None)
    with started(*arguments, "--direct_num_workers=1") as process, front.making(slowly):
        while not finished(output):
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not storage.exists(f"{output}/dataset.json")
    assert build(*arguments) == 1
    assert re.search(
        r"last seen \d+ s ago; if that one was killed, run the same command again in \d+ s", sentence(capsys)
    )
    monkeypatch.setattr(lease, "LAPSE_SECONDS", 0)  # as if they had gone by
    # Looked at when it is dead: one more may have come before the signal did.
    kept, before = finished(output), len(front.lines)
    assert len(kept) < 3
    assert build(*arguments) == 0
    assert shards(output, tmp_path / "made") == local
    lines = front.lines[before:]
    written = {name for name in local if any(re.search(f"PUT /upload/.*/temporary/{name}[.]", line) for line in lines)}
    assert written == local.keys() - kept


def finished(output: str) -> set[str]:
    """The shards that have a receipt."""
    names = storage.sizes(f"{output}/_build/finished")
    return {name.removesuffix(".json") for name in names if name.endswith(".json")}


def test_of_two_builds_that_start_at_the_same_moment_one_goes_on(
    front: Front, inputs: str, output: str, local: dict[str, str], tmp_path: Path
) -> None:
    arguments = (f"--input={inputs}", f"--output={output}", *ARGUMENTS)
    # Both are told that there is no lease yet, before either has written one.
    both = Fault("GET /storage/.*/_build/lease", threading.Barrier(2, timeout=120), times=2)
    with front.making(both), started(*arguments) as first, started(*arguments) as second:
        told = {process.wait(): process.communicate()[1] for process in (first, second)}
    assert told == {0: "", 1: told[1]}
    assert told[1].startswith(f"error: another build is writing to {output} (another build that started at the same")
    assert shards(output, tmp_path / "made") == local


def test_a_heartbeat_that_fails_is_followed_by_the_next(
    front: Front, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from google.auth.exceptions import RefreshError, TransportError

    failures, write = [TransportError("no route to host"), RefreshError("invalid_grant")], lease._write

    def fail_first(*arguments: Any) -> bool:
        if generations and failures:
            raise failures.pop()
        return write(*arguments)

    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(lease, "_write", fail_first)
    path, generations = f"{output}/_build/lease", set[int]()

    def seen_often() -> bool:
        generations.add(generation(path))
        return len(generations) > 3

    with lease.hold(path):
        generations.add(generation(path))
        wait_until(seen_often)
        assert not failures
        lease.check(path)
    assert not storage.exists(path)


def generation(path: str) -> int:
    blob = lease._blob(path)
    blob.reload()
    return int(blob.generation)


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("left", [b"of another build", None], ids=["which goes on", "which has ended"])
def test_a_build_whose_lease_another_one_took_publishes_and_deletes_nothing(
    left: bytes | None,
    front: Front,
    inputs: str,
    output: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = f"{output}/_build/lease"

    def lose_lease(*arguments: Any) -> None:
        write_plan(*arguments)
        if left is None:
            storage.delete([path])
        else:
            storage.write(path, left)
        wait_until(lambda: path in lease._lost)

    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr("beam_pipelines.builder.write_plan", lose_lease)
    assert build(f"--input={inputs}", f"--output={output}", *ARGUMENTS) == 1
    told = sentence(capsys)
    assert told.startswith(f"error: another build is writing to {output}: ")
    assert "for 90 s" in told
    assert told.endswith("run the same command again\n")
    assert not storage.exists(f"{output}/dataset.json")
    assert not storage.exists(f"{output}/rejected.jsonl")
    assert storage.read_text(path) == (left and left.decode())
    assert len(finished(output)) == 3
    tokens = storage.sizes(f"{output}/_build/token")
    with pytest.raises(BuildError, match="another build is writing to"):
        ownership.take(Workspace(output))
    assert storage.sizes(f"{output}/_build/token") == tokens


@contextlib.contextmanager
def started(
    *arguments: str, module: str = "build", env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", f"beam_pipelines.{module}", *arguments]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=PROJECT, env=env, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


# --- what does not pass


@pytest.mark.parametrize(
    ("pattern", "status", "cure"),
    [
        (f"PUT /upload/.*/temporary/{SHARD}[.]", 403, "ask for read and write access to the bucket"),
        (f"(?s)POST /batch/.*/copyTo/.*/out/{SHARD}", 403, "ask for read and write access to the bucket"),
        (f"POST /upload/.*/temporary/{SHARD}[.]", 404, "check the bucket and the path"),
    ],
    ids=["its bytes", "its name", "its bucket"],
)
def test_without_one_shard_nothing_is_published(
    pattern: str,
    status: int,
    cure: str,
    front: Front,
    inputs: str,
    output: str,
    local: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = (f"--input={inputs}", f"--output={output}", *ARGUMENTS)
    with front.making(Fault(pattern, status, times=None)):
        assert build(*arguments) == 1
    reason = {403: "Forbidden", 404: "Not Found"}[status]
    assert re.fullmatch(
        rf"error: {output}/{SHARD}: the storage answered {status}, {reason}(, says the rule)?; {cure}\n",
        sentence(capsys),
    )
    there = storage.sizes(output)
    assert "dataset.json" not in there
    assert not [name for name in there if name.startswith(SHARD)]
    assert verify([output]) == 1
    assert "did not finish" in sentence(capsys)
    assert build(*arguments) == 0
    assert shards(output, tmp_path / "made") == local


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        (
            "GET /storage/v1/b/street/o[?].*prefix=input",
            r"gs://street/input: the storage answered 403, Forbidden, says",
        ),
        ("GET /download/.*/images/", r"none of the first 8 pairs can be used: unreadable \(8\)\. The first: .*: "),
        ("GET /download/.*/plan.jsonl", r"gs://street/.*/_build/plan.jsonl: the storage answered 403, Forbidden, says"),
        ("GET /storage/.*/out/dataset.json", r"gs://street/.*/out/dataset.json: the storage answered 403, Forbidden, "),
        ("POST /upload/.*/_build/lease", r"gs://street/.*/out/_build/lease: the storage answered 403, Forbidden, says"),
        (
            "GET /download/.*/staged/val-00000",
            r"gs://street/.*/out/val-00000-of-00001.tfrecord: the storage answered 403",
        ),
    ],
    ids=["the input", "every picture", "the plan", "the manifest", "the lease", "a staged shard"],
)
def test_what_is_forbidden_is_named(
    pattern: str, wanted: str, front: Front, inputs: str, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with front.making(Fault(pattern, 403, times=None)):
        assert build(f"--input={inputs}", f"--output={output}", *ARGUMENTS) == 1
    told = sentence(capsys)
    assert re.match(f"error: {wanted}", told), told
    assert told.endswith("ask for read and write access to the bucket\n")
    assert not storage.exists(f"{output}/dataset.json")


@pytest.fixture(scope="module")
def without_one(front: Front, inputs: str, bucket: str) -> str:
    """A data set that was built while one picture was forbidden."""
    output = f"{bucket}/without_one"
    with front.making(Fault("GET /download/.*/images/val/val_0001.png", 403, times=None)):
        assert build(f"--input={inputs}", f"--output={output}", *ARGUMENTS, "--max_rejects=20%") == 0
    return output


def test_one_forbidden_picture_is_a_rejected_pair(without_one: str) -> None:
    line = storage.read_text(f"{without_one}/rejected.jsonl") or ""
    assert "gs://street/input/images/val/val_0001.png: the storage answered 403, Forbidden, says the rule; ask" in line


def test_a_shard_that_can_not_be_read_does_not_pass_for_verified(
    front: Front, without_one: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for refused, place in (("storage", ""), ("download", " beyond byte 0")):
        with front.making(Fault(f"GET /{refused}/.*/without_one/{SHARD}", 403, times=None)):
            assert verify([without_one]) == 1
        told = capsys.readouterr().out.replace("\n", "")
        assert f"{SHARD}: can't be read{place}, gs://street/without_one/{SHARD}: the storage answered 403" in told


def test_what_does_not_pass_within_the_clients_patience_is_told() -> None:
    from google.api_core.exceptions import RetryError, ServiceUnavailable
    from requests import ConnectionError

    for cause, told in (
        (ServiceUnavailable("GET https://storage.googleapis.com/b: busy"), "the storage answered 503, busy"),
        (ConnectionError("no route to host"), "the storage can't be reached, no route to host"),
    ):
        wanted = f"^gs://b/x: {told}; run the same command again later$"
        with pytest.raises(BuildError, match=wanted), cloud.errors("gs://b/x"):
            raise RetryError("Timeout of 120.0s exceeded", cause)


def test_that_nothing_answers_is_told_whoever_found_it() -> None:
    from google.api_core.exceptions import RetryError
    from google.auth.exceptions import TransportError

    for error, said in (
        (TransportError("no route to oauth2.googleapis.com"), "no route to oauth2.googleapis.com"),
        (RetryError("Timeout of 120.0s exceeded", TransportError("no route")), "no route"),
        (ConnectionResetError(104, "Connection reset by peer"), r"\[Errno 104\] Connection reset by peer"),
        (ConnectionError("closed"), "closed"),
    ):
        wanted = f"^gs://b/x: the storage can't be reached, {said}; run the same command again later$"
        with pytest.raises(BuildError, match=wanted), cloud.errors("gs://b/x"):
            raise error


def test_other_errors_pass() -> None:
    for error in (ValueError("GET x: 403"), KeyError("code"), OSError(28, "No space left on device")):
        with pytest.raises(type(error)) as caught, cloud.errors("gs://b/x"):
            raise error
        assert caught.value is error


# --- who is logged in


def alone(folder: Path, metadata: str) -> dict[str, str]:
    """An environment without a Google account; `metadata` is where a machine in the cloud would ask for its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GOOGLE_", "STORAGE_", "GCE_"))}
    places = {"HOME": str(folder), "CLOUDSDK_CONFIG": str(folder)}
    return kept | places | {"GCE_METADATA_IP": metadata, "GCE_METADATA_HOST": metadata, "NO_PROXY": "*"}


# Module and arguments -> the path that is told, and the exit code.
LOGGED_OUT = {
    ("build", "--output=gs://street/out"): ("gs://street/out", 1),
    ("build", "--input=gs://street/in", "--output=out", "--plan"): ("gs://street/in", 1),
    ("verify", "gs://street/out"): ("gs://street/out", 2),
}


def test_without_an_account_the_command_says_how_to_log_in(tmp_path: Path) -> None:
    """All of them at once, since each waits for two seconds."""
    with contextlib.ExitStack() as stack:
        asked = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in LOGGED_OUT]
        places = [f"127.0.0.1:{silent.getsockname()[1]}" for silent in asked]
        processes = [
            stack.enter_context(started(*arguments, module=module, env=alone(tmp_path, place)))
            for (module, *arguments), place in zip(LOGGED_OUT, places, strict=True)
        ]
        for process, silent, (path, code) in zip(processes, asked, LOGGED_OUT.values(), strict=True):
            _, errors = process.communicate(timeout=100)
            assert (process.returncode, errors) == (
                code,
                f"error: {path}: no Google account is set up; log in with `gcloud auth application-default "
                "login`, or set GOOGLE_APPLICATION_CREDENTIALS\n",
            )
            assert questions(silent) == 1, "each of them waits for two seconds"


def questions(silent: socket.socket) -> int:
    """How many came there, and were not answered."""
    silent.setblocking(False)
    for count in itertools.count():
        try:
            silent.accept()[0].close()
        except BlockingIOError:
            return count
    raise AssertionError


class Metadata(http.server.BaseHTTPRequestHandler):
    """What a machine in the cloud can ask about itself."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Metadata-Flavor", "Google")
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(b"street" if self.path.endswith("/project-id") else b"")

    def log_message(self, *_: object) -> None:
        """Keeps quiet."""


def test_a_machine_in_the_cloud_needs_no_login(tmp_path: Path) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_port}"
        environment = alone(tmp_path, address)
        code = "from beam_pipelines.files.cloud import *; check_login('gs://b'); print(type(find_account()).__module__)"
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
        server.shutdown()
    assert (done.stdout, done.stderr) == ("google.auth.compute_engine.credentials\n", "")


def test_an_emulator_needs_no_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in alone(tmp_path, "127.0.0.1:9").items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    cloud.check_login("gs://street/out")


# --- deletion


def test_objects_are_deleted_a_hundred_at_a_time(bucket: str, front: Front, tmp_path: Path) -> None:
    folder = f"{bucket}/many"
    names = [f"part {number} [1]*.txt" for number in range(103)]
    for name in (*names, "mine"):
        (tmp_path / name).write_bytes(b"x")
    upload(tmp_path, folder)
    start = len(front.lines)
    storage.remove(folder, [*names, "is not there"])
    asked = [line for line in front.lines[start:] if re.search("^DELETE|/batch/", line)]
    assert len(asked) == 2, asked
    assert all("/batch/" in line for line in asked)
    assert storage.sizes(folder) == {"mine": 1}
    storage.delete([f"{folder}/is not there", f"{folder}/mine"])
    assert storage.sizes(folder) == {}


def test_an_object_that_may_not_be_deleted_is_told(bucket: str, front: Front) -> None:
    folder = f"{bucket}/kept"
    for name in ("a", "b"):
        storage.write(f"{folder}/{name}", b"x")
    with (
        front.making(Fault("(?s)/batch/.*kept", 403, times=None)),
        pytest.raises(BuildError, match="the storage answered 403"),
    ):
        storage.delete([f"{folder}/{name}" for name in ("a", "b")])
    assert storage.sizes(folder) == {"a": 1, "b": 1}

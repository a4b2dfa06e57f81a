"""The trainer in a bucket: TensorFlow's own gs:// against a bucket on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.support.builds import PROJECT, build, make_flat, upload
from tests.support.pytorch_files import write_state
from trainer.errors import refusal

if TYPE_CHECKING:
    from tests.support.faulty_storage import Front

pytest.importorskip("gcp_storage_emulator", reason="gcp-storage-emulator, of the extra dev, is not installed")

from tests.support.faulty_storage import Fault
from tests.support.runs import assert_same, rows

pytestmark = [pytest.mark.usefixtures("without_transform"), pytest.mark.timeout(900)]

OPTIONS = ("--model=tiny", "--global_batch=4", "--log_steps=1", "--deterministic", "--steps_per_call=1")
RUN = (*OPTIONS, "--epochs=2", "--checkpoint_steps=3", "--optimizer=adamw", "--ema=0.9")
SAVED = "gs://street/run/checkpoints"


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_flat(tmp_path_factory.mktemp("flat"), train=18, val=6)


@pytest.fixture(scope="module")
def dataset(flat: Path, tmp_path_factory: pytest.TempPathFactory, front: Front) -> Path:
    """A data set on this machine; what gs://street/data has is the same."""
    made = tmp_path_factory.mktemp("made")
    options = ("--labels=camvid11", "--image_size=32x64", "--image_encoding=uint8", "--shards=train=4,val=2")
    assert build(f"--input={flat}", f"--output={made}", *options) == 0
    upload(made, "gs://street/data")
    upload(flat / "images" / "val", "gs://street/pictures")
    return made


@contextlib.contextmanager
def started(front: Front, *command: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """`python COMMAND`, whose gs:// is the front; it does not outlive the block."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    env = {**os.environ, **front.for_tensorflow, **environment}
    with subprocess.Popen([sys.executable, *command], cwd=PROJECT, env=env, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def finish(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    """-> what it printed on stdout and stderr."""
    out, err = process.communicate(timeout=400)
    assert process.returncode == code, out + err
    return out, err


def training(dataset: object, output: object, *arguments: str) -> list[str]:
    return ["-m", "tests.support.tiny", f"--dataset={dataset}", f"--output={output}", *arguments]


def wait_for(fault: Fault, process: subprocess.Popen[str]) -> None:
    while not fault.hits:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


# An account with the role Storage Object Admin: it may not look at the bucket itself.
UNSEEN = Fault("^GET /storage/v1/b/street $", 403, times=None)
# A checkpoint that comes to its last part, and is held there.
SAVING = Fault("POST /storage/.*/ckpt-6_temp/.*/rewriteTo/.*ckpt-6.data", 10.0)
# Of the run that is killed, and of the one that resumes it; TensorFlow tries again after a second or two.
PASSING_BEFORE = (Fault(r"POST /storage/.*/run/best.keras\.[0-9a-f]+\.tmp/rewriteTo/", 503),)
PASSING = (
    Fault("GET /street/data/train-00001", 503),
    Fault("GET /street/data/train-00002", "cut answer"),
    Fault("GET /street/run/checkpoints/ckpt-5.index", 429),
    Fault("PUT /upload/.*name=run/checkpoints/ckpt-9_temp/.*data", "cut request"),
    Fault(r"POST /upload/.*name=run/metrics.jsonl\.[0-9a-f]+\.tmp", 503, skip=1),
    Fault("PUT /upload/.*name=run/export/saved_model.pb", 503),
)


@pytest.fixture(scope="module")
def run(front: Front, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """A run on this machine that nothing disturbed; the same in the bucket, killed while it saved a checkpoint, and
    gone on with in spite of faults, as a copy on this machine; and what that printed.
    """
    from tests.support.builds import download

    folder = tmp_path_factory.mktemp("run")
    in_bucket = training("gs://street/data", "gs://street/run", *RUN)
    with started(front, *training(dataset, folder / "local", *RUN)) as undisturbed:
        with started(front, *in_bucket) as killed, front.making(SAVING, *PASSING_BEFORE, UNSEEN):
            wait_for(SAVING, killed)
            killed.send_signal(signal.SIGKILL)
        with started(front, *in_bucket) as resumed, front.making(*PASSING):
            out, _ = finish(resumed)
        finish(undisturbed)
    return folder / "local", download("gs://street/run", folder / "bucket"), out


def test_a_run_in_a_bucket_is_the_local_one_killed_or_not(run: tuple[Path, Path, str]) -> None:
    local, bucket, out = run
    assert "resuming at step 5" in out
    assert UNSEEN.hits
    assert_same(bucket, local)
    scored, expected = (json.loads((made / "report-val" / "metrics.json").read_text()) for made in (bucket, local))
    assert scored["dataset"].pop("folder") == "gs://street/data"
    expected["dataset"].pop("folder")
    assert scored == expected


def test_what_passes_by_itself_is_tried_again(run: tuple[Path, Path, str]) -> None:
    assert not [fault for fault in (*PASSING_BEFORE, *PASSING) if fault.hits != 1]


def test_a_run_leaves_in_the_bucket_what_it_leaves_elsewhere(run: tuple[Path, Path, str]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    local, bucket, _ = run
    left, expected = ({str(path.relative_to(made)) for path in made.rglob("*") if path.is_file()} for made in run[:2])
    assert {name for name in left ^ expected if not name.startswith("logs/")} == set()
    assert not [name for name in left if "tmp" in name or "temp" in name]
    logs = EventAccumulator(str(bucket / "logs")).Reload()
    steps = {event.step for event in logs.Tensors("loss/train")}
    assert steps >= {row["step"] for row in rows(local) if row["step"] > 5}, "the killed one had not told all of its"


COMMANDS = """
import importlib, json, sys
import tests.support.tiny  # enters its model into the table
for name, *arguments in json.loads(sys.argv[1]):
    code = importlib.import_module(f"trainer.{name}").main(arguments)
    print(f"{name}: {code}", file=sys.stderr, flush=True)
"""


def told(front: Front, *lines: tuple[str, ...], **environment: str) -> list[str]:
    """`python -m trainer.NAME ARGUMENTS` for each of the lines, in one process: importing TensorFlow takes longest.
    -> what they said on stderr, without TensorFlow's own log, and behind each of them `NAME: EXIT CODE`.
    """
    with started(front, "-c", COMMANDS, json.dumps(lines), **environment) as process:
        _, err = finish(process)
    return [line for line in err.splitlines() if re.match(r"gs://|error: |[a-z]+: \d$", line)]


def test_all_other_commands_read_and_write_buckets(
    run: tuple[Path, Path, str], front: Front, flat: Path, tmp_path: Path
) -> None:
    """And what Vertex AI sets names buckets."""
    from tests.support.builds import download

    model, best, pictures = "--model=gs://street/run", "--model=gs://street/run/best.keras", "gs://street/pictures"
    lines = (
        ("evaluate", model, "--dataset=gs://street/data", "--output=gs://street/scored"),
        ("compare", "gs://street/run", "gs://street/scored"),
        ("evaluate", model, "--dataset=gs://street/data", "--flip", "--output=gs://street/flipped"),
        ("compare", "gs://street/run", "gs://street/flipped"),
        ("compare", "gs://street/run", "gs://street/nothing"),
        ("predict", model, f"--images={pictures}", "--output=gs://street/predicted"),
        ("predict", model, f"--images={flat}/images/val", f"--output={tmp_path / 'predicted'}"),
        ("predict", model, f"--images={pictures}", "--output=gs://street/shut/predicted"),
        ("predict", model, f"--images={pictures}", "--output=gs://street/hidden/predicted"),
        ("export", best, "--output=gs://street/exported"),
        ("export", best, "--output=gs://street/exported"),
        ("export", best, "--output=gs://street/exported", "--overwrite"),
        ("export", best, "--output=gs://street/shut/exported"),
        ("task", *OPTIONS, "--steps=1"),
    )
    base = "gs://street/job/7"
    places = {"MODEL_DIR": "model", "CHECKPOINT_DIR": "checkpoints", "TENSORBOARD_LOG_DIR": "logs"}
    variables = {f"AIP_{name}": f"{base}/{place}/" for name, place in places.items()}
    variables["AIP_TRAINING_DATA_URI"] = "gs://street/data/dataset.json"
    hidden = Fault("prefix=hidden/predicted/ids/", 403, times=None)
    with front.making(Fault("^POST /upload/.*name=shut", 403, times=None), hidden, UNSEEN):
        said = told(front, *lines, **variables)
    assert [line.partition("; ")[0].removeprefix("error: ") for line in said] == [
        "evaluate: 0",
        "gs://street/run/report-val and gs://street/scored have the same images.npz, so they are of one model",
        *("compare: 1", "evaluate: 0", "compare: 0"),
        "gs://street/nothing: there is no such folder",
        *("compare: 1", "predict: 0", "predict: 0"),
        "gs://street/shut/predicted can't be written: gs://street/shut/predicted/: the storage answered 403",
        "predict: 1",
        "gs://street/hidden/predicted/ids/: the storage answered 403",
        *("predict: 1", "export: 0"),
        "gs://street/exported already contains a SavedModel: choose another folder, or replace it with --overwrite",
        *("export: 1", "export: 0"),
        "gs://street/shut/exported can't be written: gs://street/shut/exported/: the storage answered 403",
        *("export: 1", "task: 0"),
    ]
    made = download("gs://street", tmp_path / "made")
    scores = [json.loads((made / name / "metrics.json").read_text()) for name in ("scored", "run/report-val")]
    assert scores[0] == scores[1] | {"run": "gs://street/run"}
    (compared,) = json.loads((made / "comparison" / "comparison.json").read_text())["comparisons"]
    assert compared["mean_iou"]["a"] == scores[1]["mean_iou"]
    assert (made / "comparison" / "index.html").stat().st_size > 100_000
    painted = sorted((tmp_path / "predicted").rglob("*.*"))
    painted.remove(tmp_path / "predicted" / ".predict.json")
    assert len(painted) == 18
    for picture in painted:
        there = made / "predicted" / picture.relative_to(tmp_path / "predicted")
        assert there.read_bytes() == picture.read_bytes(), picture
    for place in ("exported", "job/7/model"):
        assert loads(made / place)
    assert {"best.keras", "checkpoints", "logs", "metrics.jsonl", "model", "report-val"} <= {
        path.name for path in (made / "job" / "7").iterdir()
    }


def loads(folder: Path) -> bool:
    import tensorflow as tf

    picture = tf.io.encode_png(np.zeros((32, 64, 3), np.uint8))
    return tf.saved_model.load(str(folder)).signatures["serving_default"](picture[None])["class_map"].shape == (
        1,
        32,
        64,
    )


FORBIDDEN = "the storage answered 403; ask for read and write access to the bucket"
LOGIN = (
    "the storage answered 401; log in with `gcloud auth application-default login`, or set "
    "GOOGLE_APPLICATION_CREDENTIALS"
)


def test_what_is_refused_is_named_in_a_sentence(dataset: Path, front: Front) -> None:
    data, shut, full = "--dataset=gs://street/data", "gs://street/shut", "gs://street/full/checkpoints"
    report = "--output=gs://street/report"  # else the model is looked for first, as the report is written beside it
    cases = {
        ("evaluate", "--model=x", report, "--dataset=gs://nobody/data"): (
            "gs://nobody/data has no dataset.json: there is no "
        ),
        ("evaluate", "--model=x", report, "--dataset=gs://street/login"): f"gs://street/login/dataset.json: {LOGIN}",
        ("evaluate", f"--model={shut}", data): f"{shut}: {FORBIDDEN}",
        (
            "export",
            "--model=gs://nobody/x",
            "--output=x",
        ): "gs://nobody/x does not exist: set the path of a best.keras, or the ",
        ("export", "--model=x", f"--output={shut}"): f"{shut}: {FORBIDDEN}",
        ("predict", "--model=x", f"--images={shut}", "--output=gs://street/x"): f"{shut}: {FORBIDDEN}",
        ("predict", "--model=x", f"--images={PROJECT}", "--output=gs://nobody/x"): (
            "gs://nobody/x: there is no bucket gs://nobody; check its name"
        ),
        ("task", data, "--model=u2netp", "--output=gs://nobody/run"): (
            "gs://nobody/run: there is no bucket gs://nobody; check its name"
        ),
        ("task", data, "--model=u2netp", f"--output={shut}"): f"{shut}/checkpoints: {FORBIDDEN}",
        ("task", data, *OPTIONS, "--steps=3", "--checkpoint_steps=1", "--output=gs://street/full"): (
            f"{full}: step 2 can't be saved: {full}/ckpt-2.index: {FORBIDDEN}"
        ),
    }
    faults = (
        Fault("/login/", 401, times=None),
        Fault("street/o/shut|prefix=shut", 403, times=None),
        Fault("POST /upload/.*name=full/checkpoints/ckpt-2.index", 403, times=None),
    )
    with front.making(*faults):
        said = told(front, *cases)
    assert said[1::2] == [f"{name}: 1" for name, *_ in cases]
    for line, wanted in zip(said[::2], cases.values(), strict=True):
        assert line.startswith(f"error: {wanted}")


READING = """
import sys
from trainer.models.weights.pytorch_file import read_tensors
for path in sys.argv[1:]:
    try:
        print({name: values.tolist() for name, values in read_tensors(path).items()})
    except OSError as error:
        print(error)
"""


def test_pretrained_weights_are_read_from_a_bucket(front: Front, tmp_path: Path) -> None:
    write_state(tmp_path / "state.pth", {"weight": np.arange(3, dtype=np.float32)})
    upload(tmp_path, "gs://street/weights")
    paths = [f"gs://street/weights/{name}.pth" for name in ("state", "absent", "shut")]
    with (
        front.making(Fault("street/o/weights.*shut", 403, times=None)),
        started(front, "-c", READING, *paths) as process,
    ):
        read, absent, shut = finish(process)[0].splitlines()
    assert read == "{'weight': [0.0, 1.0, 2.0]}"
    assert absent.startswith("there is no file gs://street/weights/absent.pth; set the path")
    assert shut.startswith(f"gs://street/weights/shut.pth: {FORBIDDEN}")


def test_other_errors_are_not_a_buckets() -> None:
    assert refusal(ValueError("gs://street: 403")) is None
    told = "Error executing an HTTP request: libcurl code 6 meaning 'Could not resolve hostname', error details: x"
    assert refusal(OSError(f"{told}\n\t when reading metadata of gs://street/data/dataset.json [Op:ReadFile]")) == (
        "gs://street/data/dataset.json: the storage can't be reached, libcurl code 6 meaning 'Could not resolve "
        "hostname', error details: x; run the same command again later"
    )

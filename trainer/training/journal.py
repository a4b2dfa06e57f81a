"""The logs of a run: metrics.jsonl, TensorBoard, and the metric of a hyperparameter search."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from trainer.config import CONFIG
from trainer.files import DamagedFileError, flush, make_folder, new_name, publish, read_bytes, unsealed, write_whole

FILE_NAME = "metrics.jsonl"
HYPERPARAMETER_METRIC = "mean_iou"
_PLAIN = (bool, int, float, str)  # types of hyperparameters in TensorBoard
_CONFIG_BYTES = 2**26
_MOST = 2**63 - 1  # a larger whole number is none of a run, and no plot can show it
_REMOTE_SECONDS = 30.0  # between writes to a bucket


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of metrics.jsonl. Values that are None are left out, except `loss` and `mean_iou`.

    Attributes:
      step: number of updates so far.
      epoch: the same in passes over the train split.
      split: "train" or "val". For train, `loss` and `mean_iou` are means over the updates since the previous line, from
        the predictions made during training; for val, they are those of the whole split.
      learning_rate: of the last update.
      class_iou: IoU by class name, from 0 to 1; None for a class that does not occur.
    """

    step: int
    epoch: float
    split: str
    loss: float | None
    mean_iou: float | None
    learning_rate: float | None = None
    images_per_second: float | None = None
    class_iou: Mapping[str, float | None] | None = None

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value is not None or name in ("loss", "mean_iou")}


class Journal:
    """Writes rows to `folder`/metrics.jsonl and to TensorBoard's folder `logs`. Only for the chief.

    When a run resumes at `step`, later rows are dropped, since they will be written again; and evaluations after
    `evaluated` (default: `step`). Damaged lines are left out, and the original file is kept under another name.

    Attributes:
      problems: a sentence about damaged lines, if there are any.
      rows: the rows of metrics.jsonl so far.
    """

    def __init__(
        self, folder: str, logs: str, *, step: int, reports_metric: bool, evaluated: int | None = None
    ) -> None:
        self._path = f"{folder}/{FILE_NAME}"
        self._reports_metric = reports_metric
        last = {"val": step if evaluated is None else evaluated}
        known, damaged = parse_rows(_read(self._path))
        self.problems = [self._set_aside(damaged)] if damaged else []
        self.rows = [row for row in known if row["step"] <= last.get(row["split"], step)]
        make_folder(logs)  # TensorFlow itself would look at the bucket
        self._board = tf.summary.create_file_writer(logs)
        self._written = 0
        self._flushed = time.monotonic()
        self._rewrite()

    def add(self, row: Row) -> None:
        self.rows.append(row.to_json())
        with self._board.as_default(step=row.step):
            for name, value in _scalars(row).items():
                tf.summary.scalar(name, value)

    def add_scores(self, scores: Mapping[str, float], split: str, step: int) -> None:
        """Writes scores that are not in a row, to TensorBoard only."""
        with self._board.as_default(step=step):
            for name, value in scores.items():
                tf.summary.scalar(f"{name}/{split}", value)

    def add_hyperparameters(self, values: Mapping[str, Any]) -> None:
        """Writes values for TensorBoard's tab HParams. Those that are None are left out, and lists are texts."""
        from tensorboard.plugins.hparams import api

        known = {name: value for name, value in values.items() if value is not None}
        plain = {name: value if isinstance(value, _PLAIN) else json.dumps(value) for name, value in known.items()}
        with self._board.as_default(step=0):
            api.hparams(plain)

    def add_pictures(self, pictures: np.ndarray, step: int) -> None:
        """Writes images uint8[N, H, W, 3] to TensorBoard: image, truth and prediction side by side."""
        with self._board.as_default(step=step):
            tf.summary.image("image, truth, prediction", pictures, max_outputs=len(pictures))

    def add_graph(self, graph: tf.Graph) -> None:
        with self._board.as_default(step=0):
            tf.summary.graph(graph)

    def report_metric(self, mean_iou: float, step: int) -> None:
        """Reports to Vertex AI's hyperparameter search, if the run is a trial of one."""
        if self._reports_metric:
            import hypertune

            hypertune.HyperTune().report_hyperparameter_tuning_metric(
                hyperparameter_metric_tag=HYPERPARAMETER_METRIC, metric_value=mean_iou, global_step=step
            )

    def flush(self, now: bool = False) -> None:
        """Writes the rows so far. A file in a bucket, which can't be appended to, is rewritten every 30 s, or `now`."""
        if "://" in self._path and not now and time.monotonic() - self._flushed < _REMOTE_SECONDS:
            return
        self._flushed = time.monotonic()
        self._board.flush()
        if "://" in self._path:
            self._rewrite()
            return
        with open(self._path, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in self.rows[self._written :])
        flush(self._path)
        self._written = len(self.rows)

    def close(self) -> None:
        self.flush(now=True)
        self._board.close()

    def _rewrite(self) -> None:
        write_whole(self._path, "".join(json.dumps(row) + "\n" for row in self.rows).encode())
        self._written = len(self.rows)

    def _set_aside(self, damaged: int) -> str:
        """Keeps a copy of the file under a new name. -> a sentence about it."""
        kept = f"{self._path}.damaged-{time.strftime('%Y%m%d-%H%M%S')}"
        temporary = new_name(kept)
        tf.io.gfile.copy(self._path, temporary)
        publish(temporary, kept)
        return f"{self._path}: {damaged:,} damaged lines are left out; the original file is kept as {kept}"


class NullJournal(Journal):
    """The journal of hosts other than the chief: it writes nothing."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.rows: list[dict[str, Any]] = []

    def add(self, row: Row) -> None: ...

    def add_scores(self, scores: Mapping[str, float], split: str, step: int) -> None: ...

    def add_hyperparameters(self, values: Mapping[str, Any]) -> None: ...

    def add_pictures(self, pictures: np.ndarray, step: int) -> None: ...

    def add_graph(self, graph: tf.Graph) -> None: ...

    def report_metric(self, mean_iou: float, step: int) -> None: ...

    def flush(self, now: bool = False) -> None: ...

    def close(self) -> None: ...


def read_rows(folder: str) -> list[dict[str, Any]]:
    """The rows of `folder`/metrics.jsonl, without damaged and incomplete ones."""
    return parse_rows(_read(f"{folder}/{FILE_NAME}"))[0]


def read_config(folder: str) -> dict[str, Any]:
    """The content of `folder`/config.json; empty if there is none that can be read, since it is only shown."""
    try:
        return unsealed(read_bytes(f"{folder}/{CONFIG}", _CONFIG_BYTES))
    except (FileNotFoundError, DamagedFileError):
        return {}


def parse_rows(data: bytes) -> tuple[list[dict[str, Any]], int]:
    """-> the rows of a metrics.jsonl, and the number of damaged lines; an incomplete last line does not count.

    Lines have no checksum, so that any program can read and append them. A changed digit or letter is not noticed if
    the line still has the form of a row.
    """
    *lines, last = data.split(b"\n")
    parsed = [_parse(line) for line in lines if line]
    rows = [row for row in parsed if row is not None]
    return rows, len(parsed) - len(rows) + (b"\0" in last)


def _read(path: str) -> bytes:
    if not tf.io.gfile.exists(path):
        return b""
    with tf.io.gfile.GFile(path, "rb") as file:
        data: bytes = file.read()
    return data


def _parse(line: bytes) -> dict[str, Any] | None:
    """The row in a line; None if it is not a row."""
    try:
        row = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and _is_row(row) else None


def _is_row(row: Mapping[str, Any]) -> bool:
    numbers = [row.get(name) for name in ("loss", "mean_iou", "learning_rate", "images_per_second")]
    class_iou = row.get("class_iou")
    return (
        row.keys() <= Row.__dataclass_fields__.keys()
        and row.get("split") in ("train", "val")
        and isinstance(row.get("step"), int)
        and 0 <= row["step"] <= _MOST
        and _is_number(row.get("epoch"))
        and all(value is None or _is_number(value) for value in numbers)
        and (class_iou is None or isinstance(class_iou, dict))
        and all(value is None or _is_number(value) for value in (class_iou or {}).values())
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or (type(value) is int and abs(value) <= _MOST)


def _scalars(row: Row) -> dict[str, float]:
    """Tag in TensorBoard -> value."""
    names = ("loss", "mean_iou", "learning_rate", "images_per_second")
    values = {f"{name}/{row.split}": getattr(row, name) for name in names}
    values |= {f"{row.split}/class_iou/{name}": iou for name, iou in (row.class_iou or {}).items()}
    return {name: value for name, value in values.items() if value is not None}

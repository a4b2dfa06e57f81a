"""What a run leaves to read: metrics.jsonl, TensorBoard's logs, and the metric of a hyperparameter search."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

FILE_NAME = "metrics.jsonl"
HYPERPARAMETER_METRIC = "mean_iou"
_REMOTE_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of metrics.jsonl. What does not apply is left out there.

    Attributes:
      step: updates done; epoch: the same in passes over the train split.
      split: train, whose loss and mean_iou are of the updates since the line before, with what the model predicted
        while it learned; or val, of the whole split.
      class_iou: by name; None for a class that the split does not have.
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
    """Writes rows to `folder`/metrics.jsonl and to TensorBoard's `logs`; on the chief only.

    A run that goes on from `step` drops the rows after it: they will come again. So do evaluations after `evaluated`,
    by default the same.
    """

    def __init__(
        self, folder: str, logs: str, *, step: int, reports_metric: bool, evaluated: int | None = None
    ) -> None:
        self._path = f"{folder}/{FILE_NAME}"
        self._reports_metric = reports_metric
        last = {"val": step if evaluated is None else evaluated}
        self.rows = [row for row in read_rows(folder) if row["step"] <= last.get(row["split"], step)]
        self._board = tf.summary.create_file_writer(logs)
        self._written = 0
        self._flushed = time.monotonic()
        self._rewrite()

    def add(self, row: Row) -> None:
        self.rows.append(row.to_json())
        with self._board.as_default(step=row.step):
            for name, value in _scalars(row).items():
                tf.summary.scalar(f"{name}/{row.split}", value)

    def add_pictures(self, pictures: np.ndarray, step: int) -> None:
        """uint8[N, H, W, 3] for TensorBoard: image, truth and prediction side by side."""
        with self._board.as_default(step=step):
            tf.summary.image("image, truth, prediction", pictures, max_outputs=len(pictures))

    def add_graph(self, graph: tf.Graph) -> None:
        with self._board.as_default(step=0):
            tf.summary.graph(graph)

    def report_metric(self, mean_iou: float, step: int) -> None:
        """To Vertex AI's hyperparameter search, where there is one."""
        if self._reports_metric:
            import hypertune

            hypertune.HyperTune().report_hyperparameter_tuning_metric(
                hyperparameter_metric_tag=HYPERPARAMETER_METRIC, metric_value=mean_iou, global_step=step
            )

    def flush(self, now: bool = False) -> None:
        """Makes the rows so far readable. A bucket has no appending: there files are written anew, which has to be
        `now`, or is done every half minute.
        """
        if "://" in self._path and not now and time.monotonic() - self._flushed < _REMOTE_SECONDS:
            return
        self._flushed = time.monotonic()
        self._board.flush()
        if "://" in self._path:
            self._rewrite()
            return
        with open(self._path, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in self.rows[self._written :])
        self._written = len(self.rows)

    def close(self) -> None:
        self.flush(now=True)
        self._board.close()

    def _rewrite(self) -> None:
        with tf.io.gfile.GFile(f"{self._path}.tmp", "w") as file:
            file.write("".join(json.dumps(row) + "\n" for row in self.rows))
        tf.io.gfile.rename(f"{self._path}.tmp", self._path, overwrite=True)
        self._written = len(self.rows)


def read_rows(folder: str) -> list[dict[str, Any]]:
    """The rows of `folder`/metrics.jsonl; of one that a killed run left, without a last line that was cut off."""
    path = f"{folder}/{FILE_NAME}"
    if not tf.io.gfile.exists(path):
        return []
    with tf.io.gfile.GFile(path) as file:
        lines = file.read().split("\n")
    return [json.loads(line) for line in lines[:-1] if line]


def _scalars(row: Row) -> dict[str, float]:
    values = {name: getattr(row, name) for name in ("loss", "mean_iou", "learning_rate", "images_per_second")}
    values |= {f"iou of {name}": iou for name, iou in (row.class_iou or {}).items()}
    return {name: value for name, value in values.items() if value is not None}

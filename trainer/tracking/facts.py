"""What a tracker is told of a run, and what the run's folder keeps of that."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import tensorflow as tf

from trainer.files import DamagedFileError, is_local, read_bytes, sealed, unsealed, write_whole

FILE_NAME = "tracking.json"  # in the folder of a run
_BYTES = 2**20
Rows = Sequence[Mapping[str, Any]]  # of metrics.jsonl, sorted by step


@dataclass(frozen=True, kw_only=True)
class About:
    """What stays the same while a run is tracked.

    Attributes:
      name: of the run, for people.
      settings: option or fact -> plain value; without those that are None.
    """

    name: str
    settings: Mapping[str, Any]


@dataclass
class Record:
    """What has been tracked of a run in one tracker.

    Attributes:
      key: made by us, and the run's own: the tracker finds its run by it.
      id: the tracker's name of its run; empty if it has not told.
      steps: split -> step of the last row that was tracked.
      files: digest of what was kept last of the finished run; empty if nothing was.
    """

    key: str
    id: str = ""
    steps: dict[str, int] = field(default_factory=dict)
    files: str = ""

    def missing(self, rows: Rows) -> list[Mapping[str, Any]]:
        """Those of the rows that have not been tracked, sorted by step."""
        new = [row for row in rows if row["step"] > self.steps.get(row["split"], -1)]
        return sorted(new, key=lambda row: int(row["step"]))

    def add(self, rows: Rows) -> None:
        for row in rows:
            self.steps[row["split"]] = max(row["step"], self.steps.get(row["split"], -1))


class TrackedRun(Protocol):
    """The run in a tracker. Whatever its library raises is raised, or told in a TrackingError."""

    place: str  # where people find it

    def __init__(self, about: About, record: Record) -> None:
        """Finds or makes the tracker's run, and enters its id in the record."""

    def correct(self, record: Record) -> None:
        """Corrects the record by what the tracker itself knows of its run, if it can tell."""

    def log(self, rows: Rows) -> None: ...

    def keep(self, files: Mapping[str, str]) -> None:
        """Keeps local files, by their names with slashes."""

    def end(self, outcome: str) -> None:
        """The outcome is "finished", "stopped" or "failed". Waits until the tracker has everything."""


def read_record(folder: str, tracker: str) -> Record | None:
    """The record of a run in one tracker; None if there is none, or it is damaged."""
    try:
        value = unsealed(read_bytes(f"{folder}/{FILE_NAME}", _BYTES)).get(tracker)
        return None if value is None else Record(**value)
    except (FileNotFoundError, DamagedFileError, TypeError):
        return None


def write_record(folder: str, tracker: str, record: Record) -> None:
    """Records beside it what other trackers have."""
    others: dict[str, Any] = {}
    with contextlib.suppress(FileNotFoundError, DamagedFileError):
        others = unsealed(read_bytes(f"{folder}/{FILE_NAME}", _BYTES))
    write_whole(f"{folder}/{FILE_NAME}", sealed(others | {tracker: vars(record)}))


def metrics_of(row: Mapping[str, Any]) -> dict[str, float]:
    """`train/loss`, `val/mean_iou`, `val/class_iou/road`: the numbers of a row, by their names in a tracker.

    Each row has `epoch`, as the last one: who has it has the whole row.
    """
    split, plain = row["split"], ("loss", "mean_iou", "learning_rate", "images_per_second")
    found = {f"{split}/{name}": row.get(name) for name in plain}
    found |= {f"{split}/class_iou/{name}": value for name, value in (row.get("class_iou") or {}).items()}
    found[f"{split}/epoch"] = row["epoch"]
    return {name: float(value) for name, value in found.items() if value is not None}


@contextlib.contextmanager
def as_local(files: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Name -> path of each file on this machine; those of a bucket are copied for the while."""
    with tempfile.TemporaryDirectory() as folder:
        local = {}
        for name, path in files.items():
            local[name] = path
            if not is_local(path):
                copy = Path(folder, name)
                copy.parent.mkdir(parents=True, exist_ok=True)
                tf.io.gfile.copy(path, str(copy))
                local[name] = str(copy)
        yield local

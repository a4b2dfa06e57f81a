"""A run in MLflow, where MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME say; else in `mlflow.db` of this folder.

Through the client alone: the functions of `mlflow` end runs when the process ends, which may take minutes.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from trainer.tracking import TrackingError
from trainer.tracking.facts import About, Record, Rows, metrics_of

_KEY = "street_scenes.run"  # the tag by which a run is found that was made just before it was killed
_CHANGED = "street_scenes.changed"  # the tag with settings that a later start changed; parameters can't be
_LIMIT = 1000  # metrics in a request
_OUTCOMES = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
_PARAMETERS = 100  # in a request


@contextlib.contextmanager
def _told_shortly() -> Iterator[None]:
    """Turns whatever MLflow raises into a TrackingError that names its address, and the first cause alone."""
    try:
        yield
    except Exception as error:
        import mlflow

        raise TrackingError(f"MLFLOW_TRACKING_URI={mlflow.get_tracking_uri()}: {_cause_of(error)}") from error


def _cause_of(error: Exception) -> str:
    if schemes := getattr(error, "supported_uri_schemes", None):
        return f"MLflow has no store of this kind: it takes {', '.join(f'{name}:' for name in schemes if name)}"
    first: BaseException = error
    while cause := first.__cause__ or first.__context__:
        first = cause
    if isinstance(first, OSError) and first.strerror:
        return first.strerror
    return (str(error).strip().splitlines() or [""])[0] or type(error).__name__


class RunInMlflow:
    """See `TrackedRun`. MLflow itself tells which rows it has, so that none is there twice.

    Each public method raises TrackingError, whatever MLflow raises.
    """

    @_told_shortly()
    def __init__(self, about: About, record: Record) -> None:
        import mlflow

        logging.getLogger("mlflow").setLevel(logging.WARNING)  # it logs that it makes its tables
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # it logs each time that it tries again
        self._client = mlflow.MlflowClient()
        run = self._known(record.id) or self._found(record.key) or self._made(about, record.key)
        self._id = record.id = run.info.run_id
        self.place = f"{mlflow.get_tracking_uri()}, experiment {run.info.experiment_id}, run {self._id}"
        self._client.update_run(self._id, status="RUNNING")
        self._set_parameters(about.settings, run.data.params)

    def _known(self, run_id: str) -> Any:
        """The run of this id; None if this store has none: it may be another one than before."""
        from mlflow.exceptions import MlflowException

        try:
            return self._client.get_run(run_id) if run_id else None
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None

    def _found(self, key: str) -> Any:
        runs = self._client.search_runs([self._experiment()], f"tags.`{_KEY}` = '{key}'", max_results=1)
        return runs[0] if runs else None

    def _made(self, about: About, key: str) -> Any:
        return self._client.create_run(self._experiment(), run_name=about.name, tags={_KEY: key})

    def _experiment(self) -> str:
        """The id of the experiment that MLflow's own variables name; else of its default."""
        from mlflow.environment_variables import MLFLOW_EXPERIMENT_ID, MLFLOW_EXPERIMENT_NAME

        name = MLFLOW_EXPERIMENT_NAME.get() or "Default"
        if not MLFLOW_EXPERIMENT_NAME.get() and MLFLOW_EXPERIMENT_ID.get():
            return str(MLFLOW_EXPERIMENT_ID.get())
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id if found else self._client.create_experiment(name))

    def _set_parameters(self, settings: Mapping[str, Any], before: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in settings.items()}
        new = [Param(name, text) for name, text in texts.items() if name not in before]
        for start in range(0, len(new), _PARAMETERS):
            self._client.log_batch(self._id, params=new[start : start + _PARAMETERS])
        changed = {name: text for name, text in texts.items() if before.get(name, text) != text}
        if changed:
            self._client.set_tag(self._id, _CHANGED, json.dumps(changed))

    @_told_shortly()
    def correct(self, record: Record) -> None:
        """By `epoch`, which is the last metric of each row."""
        history = {split: self._client.get_metric_history(self._id, f"{split}/epoch") for split in ("train", "val")}
        record.steps = {split: max(each.step for each in found) for split, found in history.items() if found}
        record.files = record.files if record.steps else ""  # another store than before

    @_told_shortly()
    def log(self, rows: Rows) -> None:
        from mlflow.entities import Metric

        now, batch = int(time.time() * 1000), list[Any]()
        for row in rows:
            metrics = [Metric(_name(name), value, now, row["step"]) for name, value in metrics_of(row).items()]
            if len(batch) + len(metrics) > _LIMIT:
                self._client.log_batch(self._id, metrics=batch)
                batch = []
            batch += metrics
        if batch:
            self._client.log_batch(self._id, metrics=batch)

    @_told_shortly()
    def keep(self, files: Mapping[str, str]) -> None:
        for name, path in files.items():
            folder = str(PurePosixPath(name).parent)
            self._client.log_artifact(self._id, path, None if folder == "." else folder)

    @_told_shortly()
    def end(self, outcome: str) -> None:
        self._client.set_terminated(self._id, _OUTCOMES[outcome])


def _name(metric: str) -> str:
    """The name with _ for what MLflow does not take."""
    return re.sub(r"[^\w\-. :/]", "_", metric)

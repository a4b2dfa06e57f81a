"""What a comparison reads of a run: one report of it, its settings and its learning curves."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from beam_pipelines.contract.errors import UserError
from trainer.comparison.options import DEFAULT_SPLIT
from trainer.comparison.scores import parts_of, scores_of
from trainer.config import CONFIG
from trainer.evaluation.results import ResultsError, read_results
from trainer.files import is_folder, is_local, names_in, read_bytes
from trainer.inference.model_file import BEST
from trainer.training.journal import FILE_NAME, read_config, read_rows

METRICS = "metrics.json"
IMAGES = "images.npz"
_JSON_BYTES = 2**26
_IMAGES_BYTES = 2**31


class ComparisonError(UserError, ValueError):
    """Runs that can't be compared, or a folder that can't be written; the message says how to fix it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """A report of a run. The attributes from `config` on are empty for a model that is not in the folder of a run.

    Attributes:
      name: the end of its path that tells it from the other runs.
      report: the folder with metrics.json.
      digest: SHA-256 of images.npz.
      metrics: the content of metrics.json.
      filenames: of the N images, in stored order.
      class_names: of the C classes.
      confusions: int64[N, C, C], one matrix for each image; rows are the truth.
      config: the content of config.json.
      rows: the rows of metrics.jsonl.
    """

    name: str
    report: str
    digest: str
    metrics: Mapping[str, Any]
    filenames: tuple[str, ...]
    class_names: tuple[str, ...]
    confusions: np.ndarray
    config: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]

    @functools.cached_property
    def parts(self) -> np.ndarray:
        """float64[N, 2, C]; see `trainer.comparison.scores`."""
        return parts_of(self.confusions)

    @functools.cached_property
    def scores(self) -> np.ndarray:
        """float64[1 + C]: mean IoU and the IoU of each class."""
        return scores_of(self.parts.sum(0))

    @property
    def fingerprint(self) -> str:
        """Of the data set that it was scored on."""
        return str(self.metrics["dataset"]["fingerprint"])

    @property
    def step(self) -> int | None:
        """Updates of the model."""
        return (self.metrics["model"] or {}).get("step")


def read_runs(paths: Sequence[str], split: str | None = None) -> list[Run]:
    """Reads each of `paths`, the folder of a run or of a report.

    Args:
      split: whose reports are read; None for DEFAULT_SPLIT of runs, and whatever the reports are of.

    Raises:
      ComparisonError: there is no complete report of this version, or of another split, or one is named twice.
    """
    runs = [_read_run(path, name, split) for path, name in zip(paths, names_of(paths), strict=True)]
    for first, second in itertools.combinations(runs, 2):
        if _place(first.report) == _place(second.report):
            raise ComparisonError(f"{first.report} and {second.report} are one report; name each run once")
        if first.digest == second.digest:
            raise ComparisonError(
                f"{first.report} and {second.report} have the same {IMAGES}, so they are of one model; name each run "
                "once"
            )
    return runs


def _place(report: str) -> str:
    """The same for all spellings of a folder."""
    return os.path.realpath(report) if is_local(report) else report


def names_of(paths: Sequence[str]) -> list[str]:
    """The shortest ends of different paths that differ: a and b of out/a and out/b."""
    parts = [path.rstrip("/").split("/") for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-length:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    return list(paths)


def _read_run(path: str, name: str, split: str | None) -> Run:
    if not is_folder(path):
        raise ComparisonError(f"{path}: there is no such folder; name the folder of a run, or of a report")
    is_report = METRICS in names_in(path)
    report = path if is_report else f"{path}/report-{split or DEFAULT_SPLIT}"
    beside = os.path.dirname(report) or "."
    metrics = _metrics(report, _evaluate_again(beside, report, {"split": split or _split_in(report)}))
    if split not in (None, metrics["split"]):
        raise ComparisonError(
            f"{report} is a report of split {metrics['split']}, not of {split}: leave --split out, or name a report of "
            f"{split}"
        )
    home = metrics.get("run") or beside
    again = _evaluate_again(home, report, metrics)
    filenames, class_names, confusions, digest = _images(report, again)
    if confusions.sum(0).tolist() != metrics["confusion"]:
        raise ComparisonError(f"{report}: {IMAGES} and {METRICS} are not of one evaluation: {again}")
    is_known = bool({CONFIG, FILE_NAME} & _names_if_there(home))
    return Run(
        name=name,
        report=report,
        digest=digest,
        metrics=metrics,
        filenames=filenames,
        class_names=class_names,
        confusions=confusions,
        config=_config(home) if is_known else {},
        rows=read_rows(home) if is_known else (),
    )


def _config(home: str) -> dict[str, Any]:
    """The content of config.json; empty if its parts are no objects, since it is only shown."""
    config = read_config(home)
    return config if all(isinstance(config.get(part, {}), dict) for part in ("config", "identity")) else {}


def _names_if_there(home: str) -> set[str]:
    """The names in the folder that a report says its model was in, which may be gone, or of somebody else."""
    try:
        return {*names_in(home)}
    except (tf.errors.OpError, OSError):
        return set()


def _split_in(report: str) -> str:
    """The split that the folder of a report is named after."""
    start, _, split = os.path.basename(report).partition("report-")
    return DEFAULT_SPLIT if start or not split else split


def _evaluate_again(home: str, report: str, metrics: Mapping[str, Any]) -> str:
    """The cure for a report that can't be used.

    Args:
      home: the folder of the run.
      metrics: with the split, and what is known of the rest.
    """
    names, split = _names_if_there(home), metrics["split"]
    config = _config(home) if CONFIG in names else {}
    dataset = metrics.get("dataset", {}).get("folder") or config.get("config", {}).get("dataset", "DIR")
    model = home if {CONFIG, BEST} & names else "MODEL"
    options = {"model": model, "dataset": dataset, "split": split}
    if report != f"{home}/report-{split}":
        options["output"] = report
    return f"run `python -m trainer.evaluate {shlex.join(f'--{name}={value}' for name, value in options.items())}`"


def _metrics(report: str, again: str) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(read_bytes(f"{report}/{METRICS}", _JSON_BYTES))
        _check_metrics(value)
    except FileNotFoundError as error:
        raise ComparisonError(f"{report} has no {METRICS}, so there is no complete report: {again}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ComparisonError(f"{report}/{METRICS} is damaged, or of another version: {again}") from error
    return value


def _check_metrics(value: Any) -> None:
    """Raises KeyError or TypeError if what is compared or shown is missing, or is of another type."""
    _check_types(value, {"dataset": dict, "split": str, "model": dict | None, "confusion": list})
    _check_types(value["dataset"], {"fingerprint": str})
    _check_types({"step": None, **(value["model"] or {})}, {"step": int | None})
    _check_types({"run": None, **value}, {"run": str | None})


def _check_types(value: Any, kinds: Mapping[str, Any]) -> None:
    wrong = [name for name, kind in kinds.items() if not isinstance(value[name], kind)]
    if wrong:
        raise TypeError(f"{wrong[0]} is {str(value[wrong[0]])[:80]}")


def _images(report: str, again: str) -> tuple[tuple[str, ...], tuple[str, ...], np.ndarray, str]:
    """-> names of the images, names of the classes, confusions, SHA-256 of the file."""
    try:
        content = read_bytes(f"{report}/{IMAGES}", _IMAGES_BYTES)
    except FileNotFoundError as error:
        raise ComparisonError(
            f"{report} has no {IMAGES}, which earlier versions did not write: {again} again"
        ) from error
    try:
        results, class_names = read_results(content)
    except ResultsError as error:
        raise ComparisonError(f"{report}/{IMAGES} is damaged, or of another version: {again} again") from error
    return results.filenames, class_names, results.confusions, hashlib.sha256(content).hexdigest()

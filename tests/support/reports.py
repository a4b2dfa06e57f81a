"""Folders of runs with reports, as `trainer.evaluate` writes them, without a model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from beam_pipelines.contract.labels import LabelTable
from tests.support.results import results_of
from trainer.evaluation.metrics import Scores

SETTINGS = {"dataset": "out/scenes", "model": "deeplabv3plus", "learning_rate": 0.01, "output": "out/run"}


def confusions_of(generator: np.random.Generator, images: int, classes: int, share: float) -> np.ndarray:
    """int64[N, C, C] of a model that predicts this share of the pixels correctly; the truth is the same for all."""
    truth = np.random.default_rng(0).integers(20, 200, (images, classes))
    correct = generator.binomial(truth, share)
    wrong = generator.multinomial(truth - correct, np.full(classes, 1 / classes))
    confusions: np.ndarray = wrong.astype(np.int64)
    confusions[:, np.arange(classes), np.arange(classes)] += correct
    return confusions


def write_run(
    run: Path, labels: LabelTable, confusions: np.ndarray, *, names: Sequence[str] = (), **settings: Any
) -> Path:
    """A run with the report of its split `val`. `settings` are those that its config.json has besides SETTINGS."""
    report = run / "report-val"
    report.mkdir(parents=True)
    results = results_of(confusions)
    results = replace(results, filenames=tuple(names)) if names else results
    metrics = {
        "split": "val",
        "images": len(confusions),
        "dataset": {"folder": "out/scenes", "fingerprint": "5f" * 32},
        "model": {"model": "deeplabv3plus", "step": 100, "dataset": "5f" * 32},
        "scales": [1.0],
        "flip": False,
        **Scores(confusion=confusions.sum(0), labels=labels).to_json(),
    }
    (report / "images.npz").write_bytes(results.to_bytes(labels))
    (report / "metrics.json").write_text(json.dumps(metrics))
    (run / "config.json").write_text(json.dumps({"config": SETTINGS | settings, "identity": {"dataset": "5f" * 32}}))
    rows = [
        {"step": 50 * epoch, "epoch": float(epoch), "split": split, "loss": 1 / epoch, "mean_iou": 0.2 * epoch}
        for epoch in (1, 2)
        for split in ("train", "val")
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run

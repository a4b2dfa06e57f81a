"""Experiment trackers in which a training run can be followed. A new one is a row of `TRACKERS`."""

from __future__ import annotations

import importlib.util

from beam_pipelines.contract.errors import UserError

# Name of a tracker, and of the package that it needs -> the class that writes to it.
TRACKERS = {
    "mlflow": "trainer.tracking.in_mlflow:RunInMlflow",
    "wandb": "trainer.tracking.in_wandb:RunInWandb",
}


class TrackingError(UserError, RuntimeError):
    """A tracker that can't be used; the message says how to fix it."""


def check_installed(tracker: str | None) -> None:
    """Raises TrackingError if the package of a tracker is missing. Imports nothing of it."""
    if tracker is not None and importlib.util.find_spec(tracker) is None:
        raise TrackingError(
            f"--track={tracker}: the package {tracker} is not installed: pip install '.[tracking]', or leave out "
            "--track"
        )

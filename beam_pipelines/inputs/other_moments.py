"""Mean and std of another data set: that of a path, or the one that a training run used."""

from __future__ import annotations

import json

from beam_pipelines.contract import manifest
from beam_pipelines.errors import BuildError
from beam_pipelines.files import storage
from beam_pipelines.files.workspace import Workspace, read_manifest
from beam_pipelines.recipe import BorrowedMoments

_RUN = "config.json"  # in the folder of a training run


def borrow_moments(path: str) -> BorrowedMoments:
    """The moments of the data set at `path`, or of the one that the training run at `path` used.

    Raises:
      BuildError: there is neither, or the run's data set was built again.
      ManifestError: `dataset.json` can't be read.
    """
    found = read_manifest(Workspace(path))
    if found is not None:
        borrowed = found.recipe.get("moments_from") or {"dataset": path, "fingerprint": found.fingerprint}
        return BorrowedMoments(
            dataset=str(borrowed["dataset"]),
            fingerprint=str(borrowed["fingerprint"]),
            split=found.moments_split,
            moments=found.moments,
        )
    data = storage.read_bytes(storage.join(path, _RUN))
    if data is None:
        raise BuildError(
            f"--moments_from={path} has neither {manifest.FILE_NAME} nor {_RUN}: name the folder of a data set or of a "
            "training run"
        )
    dataset, fingerprint = _dataset_of_run(data, path)
    borrowed = borrow_moments(dataset) if read_manifest(Workspace(dataset)) else None
    if borrowed is None or borrowed.fingerprint != fingerprint:
        state = "no longer exists" if borrowed is None else "was built again with another recipe"
        raise BuildError(
            f"--moments_from={path}: the run was trained on {dataset}, which {state}: name a data set that has the "
            "same moments"
        )
    return borrowed


def _dataset_of_run(data: bytes, path: str) -> tuple[str, str]:
    """-> the path and the fingerprint of the data set in a run's configuration."""
    try:
        value = json.loads(data)
        return str(value["config"]["dataset"]), str(value["identity"]["dataset"])
    except (ValueError, KeyError, TypeError) as error:
        raise BuildError(f"--moments_from={path}: {_RUN} there is not the configuration of a training run") from error

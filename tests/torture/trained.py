"""The readers of what training and evaluation write."""

from __future__ import annotations

import io
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from tests.torture import mutations
from tests.torture.reader import Reader


def models() -> Reader:
    import keras
    import tensorflow as tf

    from beam_pipelines.contract.labels import BUILTIN_TABLES
    from trainer.inference.model_file import Description, ModelFileError, load_model, save_model

    description = Description.from_json(
        {"labels": BUILTIN_TABLES["camvid11"]().to_json(), "mean": (0.5,) * 3, "std": (0.2,) * 3, "size": (8, 8)}
        | {"model": "u2netp", "step": 1, "mean_iou": None, "dataset": "0" * 64}
    )
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(11, 1)(inputs))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "torture.keras"
        save_model(str(path), model, description)
        sample = path.read_bytes()

    def read(data: bytes, path: Path) -> list[bytes]:
        file = path.with_suffix(".keras")
        file.write_bytes(data)
        loaded, _ = load_model(str(file))
        return [tf.convert_to_tensor(weight).numpy().tobytes() for weight in loaded.weights]

    return Reader([sample], mutations.mutate_zip, read, (ModelFileError,), slowness=500)


def results() -> Reader:
    """images.npz of a report."""
    from beam_pipelines.contract.labels import BUILTIN_TABLES
    from trainer.evaluation.results import ResultsError, read_results

    def read(data: bytes, _: Path) -> list[Any]:
        found, names = read_results(data)
        return [names, *(_plain(value) for value in vars(found).values())]

    sample = _confused().to_bytes(BUILTIN_TABLES["camvid11"]())
    return Reader([sample], mutations.mutate_zip, read, (ResultsError,), slowness=10)


def comparisons() -> Reader:
    """A comparison with a run that has a damaged file in its folder, and its page."""
    from trainer.comparison import output
    from trainer.comparison.runs import ComparisonError, read_runs
    from trainer.comparison.study import study

    sound = _zipped_run()

    def read(data: bytes, path: Path) -> str:
        folders = [path.with_suffix(".runs") / name for name in ("a", "b")]
        shutil.rmtree(folders[0].parent, ignore_errors=True)
        for folder, files in zip(folders, (sound, data), strict=True):
            with zipfile.ZipFile(io.BytesIO(files)) as archive:
                archive.extractall(folder)
        output.write(str(path.with_suffix(".comparison")), study(read_runs([*map(str, folders)], "val"), [1, 1]))
        return path.with_suffix(".comparison").joinpath("comparison.json").read_text()

    return Reader([sound], _with_one_damaged, read, (ComparisonError,), slowness=100)


def export_notes() -> Reader:
    """What a killed export left beside the folder of a SavedModel; the next one deletes what it names, no more."""
    from trainer.files import sealed
    from trainer.inference import saved_model

    def read(data: bytes, path: Path) -> list[str]:
        home = path.with_suffix(".home")
        folder = home / "export"
        for name in ("export", "export.tmp-0000000f", "export.old-0000000e", "mine", "export.tmp"):
            (home / name).mkdir(parents=True, exist_ok=True)
            (home / name / "kept.txt").write_text("mine")
        (home / "export.export.json").write_bytes(data)
        saved_model._clear(str(folder), str(folder) + ".export.json")
        left = sorted(str(each.relative_to(home)) for each in home.rglob("*.txt"))
        if missing := {f"{name}/kept.txt" for name in ("export", "mine", "export.tmp")} - set(left):
            raise AssertionError(missing)
        return left

    sample = sealed({"made": "export.tmp-0000000f", "replaced": "export.old-0000000e"})

    def damage(data: bytes, random: Random) -> bytes:
        """Another name in it, with a digest that fits; or any damage."""
        if random.random() < 0.5:
            return mutations.mutate_json(data, random)
        names = ("../mine", "mine", "", "export", "export.tmp", "/", "export.tmp-0000000F", None, 3, ["mine"])
        return sealed({"made": None, "replaced": None, random.choice(("made", "replaced")): random.choice(names)})

    return Reader([sample], damage, read, ())


def _confused() -> Any:
    """Results of 3 images of 11 classes."""
    from tests.support.results import results_of

    return results_of(np.random.default_rng(0).integers(0, 50, (3, 11, 11)))


def _plain(value: Any) -> Any:
    return (value.dtype.str, value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value


def _zipped_run() -> bytes:
    from beam_pipelines.contract.labels import BUILTIN_TABLES
    from tests.support.reports import write_run

    with tempfile.TemporaryDirectory() as folder:
        run = write_run(Path(folder) / "run", BUILTIN_TABLES["camvid11"](), _confused().confusions)
        names = sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())
        return _zipped({name: (run / name).read_bytes() for name in names})


def _zipped(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return content.getvalue()


def _with_one_damaged(data: bytes, random: Random) -> bytes:
    """One of the files in a sound archive is damaged, by a way that fits it, or is left out."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    name = random.choice(list(files))
    if random.random() < 0.05:
        del files[name]
        return _zipped(files)
    damage = {".npz": mutations.mutate_zip, ".json": mutations.mutate_json}.get(Path(name).suffix, mutations.mutate)
    return _zipped({**files, name: damage(files[name], random)})


OF_RUNS: dict[str, Callable[[], Reader]] = {
    "model": models,
    "results": results,
    "comparison": comparisons,
    "export note": export_notes,
}

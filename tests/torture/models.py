"""The readers of models: what training writes, and weights that others publish."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from tests.torture import folders, mutations
from tests.torture.reader import Reader


class DamagedExportError(Exception):
    """sha256sum says so."""


def models() -> Reader:
    """A `.keras` file, and what it makes of an image."""
    import tensorflow as tf

    from trainer.inference.model_file import ModelFileError, load_model, save_model
    from trainer.inference.segmenter import Segmenter

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "torture.keras"
        save_model(str(path), *_small_model())
        sample = path.read_bytes()
    images = tf.constant(_images())

    def read(data: bytes, path: Path) -> bytes:
        file = path.with_suffix(".keras")
        file.write_bytes(data)
        return Segmenter(*load_model(str(file))).probabilities(images).numpy().tobytes()

    return Reader([sample], _mutate_model, read, (ModelFileError,), slowness=20)


def pytorch_weights() -> Reader:
    """Of both formats. The older one has no checksums."""
    from tests.support.pytorch_files import write_state, write_zip
    from trainer.models.errors import ModelError, WeightsError
    from trainer.models.weights.pytorch_file import open_state

    rng = np.random.default_rng(0)
    state = {
        "conv.weight": rng.random((2, 3, 1, 1), np.float32),
        "conv.bias": rng.random(2),
        "norm.steps": np.array([3]),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.pth"
        samples = [write(path, state).read_bytes() for write in (write_state, write_zip)]

    def read(data: bytes, path: Path) -> dict[str, Any]:
        path.write_bytes(data)
        source = open_state(str(path))
        return {name: (shape, source.read(name).tobytes()) for name, shape in source.shapes.items()}

    def damage(data: bytes, random: Random) -> bytes:
        """Inside a member, with a right checksum; or any damage."""
        is_zip = data.startswith(b"PK") and random.random() < 0.7
        return folders.mutate_one(data, random) if is_zip else mutations.mutate(data, random)

    return Reader(samples, damage, read, (ModelError, WeightsError))


def tensorflow_weights() -> Reader:
    """A published checkpoint: its index and its numbers."""
    import tensorflow as tf

    from trainer.models.errors import ModelError, WeightsError
    from trainer.models.weights.checkpoint_file import open_checkpoint

    values = {"conv/weights": tf.random.stateless_uniform([1, 1, 3, 2], [0, 0]), "step": tf.constant(7, tf.int64)}
    with tempfile.TemporaryDirectory() as folder:
        prefix = f"{folder}/model.ckpt"
        tf.raw_ops.SaveV2(prefix=prefix, tensor_names=[*values], shape_and_slices=["", ""], tensors=[*values.values()])
        sample = folders.packed_folder(Path(folder))

    def read(data: bytes, path: Path) -> dict[str, Any]:
        source = open_checkpoint(f"{folders.write(data, path.with_suffix('.published'))}/model.ckpt")
        return {name: (shape, source.read(name).tobytes()) for name, shape in source.shapes.items()}

    return Reader([sample], folders.mutate_one, read, (ModelError, WeightsError))


def checkpoints() -> Reader:
    """Of a run: where one of the two is damaged, it goes on from that or from the other, never from anything else."""
    import tensorflow as tf

    from trainer.training.checkpoints import CheckpointError, Checkpoints

    weight = tf.Variable(tf.zeros([4, 3]))

    def opened(folder: str) -> Checkpoints:
        return Checkpoints(folder, {"model": [weight]}, is_chief=True)

    def values(step: int) -> tf.Tensor:
        return tf.random.stateless_uniform([4, 3], [step, 0])

    with tempfile.TemporaryDirectory() as folder:
        made = opened(folder)
        for step in (1, 2):
            weight.assign(values(step))
            made.save(step)
        sample = folders.packed_folder(Path(folder))

    def read(data: bytes, path: Path) -> int:
        restored = opened(str(folders.write(data, path.with_suffix(".checkpoints"))))
        if not restored.restore():
            raise AssertionError("it starts over")
        step = restored.newest_step or 0
        if not np.array_equal(weight, values(step)):
            raise AssertionError(f"other values than those of step {step}")
        return step

    return Reader([sample], folders.mutate_one, read, (CheckpointError,), slowness=10)


def finished_runs() -> Reader:
    """What a run has written at its end: a start of the same command finds any damage of it, and writes it again."""
    from trainer.config import FINISHED, parse_train
    from trainer.files import DamagedFileError
    from trainer.inference.model_file import save_model
    from trainer.inference.saved_model import export_model
    from trainer.training import finish

    def config(folder: Path) -> Any:
        return parse_train([f"--output={folder}", "--dataset=data", "--val_split="], {})

    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        model, description = _small_model()
        save_model(f"{run}/best.keras", model, description)
        export_model(f"{run}/export", model, description)
        finish.keep_record(config(run))
        sample = folders.packed_folder(run)
    sound = folders.unpacked(sample)

    def read(data: bytes, path: Path) -> bool:
        missing = finish.what_is_missing(config(folders.write(data, path.with_suffix(".run"))))
        if missing:
            raise DamagedFileError(missing)
        found = folders.unpacked(data)
        if changed := [name for name, had in sound.items() if name != FINISHED and found.get(name) != had]:
            raise AssertionError(f"{changed} are taken for what was written")
        return True

    return Reader([sample], folders.mutate_one, read, (DamagedFileError,), slowness=20)


def saved_models() -> Reader:
    """An export: TensorFlow gets it only if its digests fit, as sha256sum finds, and then it does what it did."""
    from trainer.inference.saved_model import export_model

    with tempfile.TemporaryDirectory() as folder:
        export_model(f"{folder}/export", *_small_model())
        sample = folders.packed_folder(Path(folder) / "export")
        expected = _served(Path(folder) / "export")

    def read(data: bytes, path: Path) -> bytes:
        export = folders.write(data, path.with_suffix(".export"))
        command = ["sha256sum", "--check", "--strict", "--status", "SHA256SUMS"]
        if subprocess.run(command, cwd=export, stderr=subprocess.DEVNULL).returncode:
            raise DamagedExportError
        if (found := _served(export)) != expected:
            raise AssertionError("another model, which its digests fit")
        return found

    return Reader([sample], folders.mutate_one, read, (DamagedExportError,), slowness=50)


def _served(export: Path) -> bytes:
    """What a SavedModel makes of an image."""
    import tensorflow as tf

    signature = tf.saved_model.load(str(export)).signatures["tensor_probabilities"]
    probabilities: np.ndarray = signature(images=tf.constant(_images()))["probabilities"].numpy()
    return probabilities.tobytes()


def _small_model() -> tuple[Any, Any]:
    """A model of one layer, and its description."""
    import keras

    from beam_pipelines.contract.labels import BUILTIN_TABLES
    from trainer.inference.model_file import Description

    description = Description.from_json(
        {"labels": BUILTIN_TABLES["camvid11"]().to_json(), "mean": (0.5,) * 3, "std": (0.2,) * 3, "size": (8, 8)}
        | {"model": "u2netp", "step": 1, "mean_iou": None, "dataset": "0" * 64}
    )
    inputs = keras.Input((8, 8, 3))
    logits = keras.layers.Conv2D(11, 1, kernel_initializer=keras.initializers.GlorotUniform(0))(inputs)
    return keras.Model(inputs, logits), description


def _images() -> np.ndarray:
    """uint8[1, 8, 8, 3]."""
    return np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), np.uint8)


def _mutate_model(data: bytes, random: Random) -> bytes:
    """Damage of a member, with a right checksum; or of the archive."""
    return mutations.mutate_zip(data, random) if random.random() < 0.2 else folders.mutate_one(data, random)


MODELS: dict[str, Callable[[], Reader]] = {
    "model": models,
    "pytorch weights": pytorch_weights,
    "tensorflow weights": tensorflow_weights,
    "checkpoint": checkpoints,
    "finished run": finished_runs,
    "saved model": saved_models,
}

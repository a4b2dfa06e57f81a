"""The command line and what Vertex AI sets, as one frozen TrainConfig. Nothing else in the trainer reads these."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trainer import arguments
from trainer.cluster import STRATEGIES, Cluster, ClusterError, parse_cluster
from trainer.models import MODELS

# The modules that have these import TensorFlow, which --help does not wait for; a test holds them to be the same.
CLASS_WEIGHTS = ("none", "median_frequency", "enet", "effective_number")
OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("poly", "cosine", "constant")
PRECISIONS = ("float32", "bfloat16", "float16", "float64")

DEFAULT_OUTPUT = "out/run"
CONFIG = "config.json"  # in the run's folder: what it was started with


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """All that decides a training run. Sizes are (height, width); None leaves a choice to the data or the model."""

    dataset: str
    train_split: str
    val_split: str
    output: str
    checkpoints: str
    logs: str
    export: str
    cluster: Cluster
    reports_metric: bool
    # model
    model: str
    model_options: Mapping[str, Any]
    initial_model: str | None
    # batches
    epochs: int
    steps: int | None
    batch_per_replica: int
    global_batch: int | None
    accumulate: int
    crop_size: tuple[int, int] | None
    augment: bool
    scale: tuple[float, float]
    color: float
    seed: int
    # objective
    class_weights: str
    top_k: float
    top_k_ramp_steps: int
    lovasz: float
    dice: float
    optimizer: str
    learning_rate: float
    schedule: str
    warmup: float
    momentum: float
    weight_decay: float
    clip_norm: float | None
    ema: float | None
    # machine
    strategy: str
    logical_devices: int | None
    precision: str
    xla: bool
    deterministic: bool
    steps_per_call: int | None
    shuffle_mib: float
    cache_mib: float
    on_corrupt: str
    # keeping and showing
    checkpoint_steps: int
    evaluate_epochs: int
    log_steps: int
    verbose: bool

    def to_json(self) -> dict[str, Any]:
        """Plain values for `config.json`."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values

    @property
    def identity(self) -> dict[str, Any]:
        """What must not change between a run and its continuation: all that decides the weights but the batches, whose
        product counts, and the data set, which has a fingerprint.
        """
        return {name: value for name, value in self.to_json().items() if name in _IDENTITY}


_IDENTITY = {
    *("train_split", "model", "model_options", "initial_model", "epochs", "steps", "crop_size", "augment", "scale"),
    *("color", "seed", "class_weights", "top_k", "top_k_ramp_steps", "lovasz", "dice", "optimizer", "learning_rate"),
    *("schedule", "warmup", "momentum", "weight_decay", "clip_norm", "ema", "precision", "shuffle_mib"),
}


def parse_train(argv: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> TrainConfig:
    """Arguments win over what Vertex AI sets. Raises SystemExit with a message where they do not fit together."""
    environment = os.environ if environment is None else environment
    parser = _parser()
    args = vars(parser.parse_args(argv))
    try:
        cluster = parse_cluster(environment)
    except ClusterError as error:
        parser.error(str(error))
    places: dict[str, Any] = _places(args.pop("output"), environment)
    dataset = args.pop("dataset") or environment.get("AIP_TRAINING_DATA_URI", "")
    if not dataset:
        parser.error("--dataset is needed: the folder that `python -m beam_pipelines.build` wrote")
    options = {name: args.pop(name) for name in _MODEL_OPTIONS}
    return TrainConfig(
        **(args | places),
        dataset=_dataset_folder(dataset),
        model_options={name: value for name, value in options.items() if value is not None},
        cluster=cluster,
        reports_metric="CLOUD_ML_TRIAL_ID" in environment,
    )


def _places(output: str | None, environment: Mapping[str, str]) -> dict[str, Any]:
    """Where things are written: below --output, or where Vertex AI says, or below the default.

    Vertex AI gives folders below one base: BASE/checkpoints/, BASE/logs/, BASE/model/.
    """
    given = {
        "checkpoints": environment.get("AIP_CHECKPOINT_DIR"),
        "logs": environment.get("AIP_TENSORBOARD_LOG_DIR"),
        "export": environment.get("AIP_MODEL_DIR"),
    }
    bases = [_folder(path).rpartition("/")[0] for path in given.values() if path]
    base = _folder(output) if output else (bases or [DEFAULT_OUTPUT])[0]
    chosen = {name: f"{base}/{name}" if output or not path else _folder(path) for name, path in given.items()}
    return {"output": base, **chosen}


def _dataset_folder(path: str) -> str:
    """The folder itself, or that of the dataset.json whose path was given."""
    folder, name = os.path.split(path)
    return _folder((folder or ".") if name == "dataset.json" else path)


def _folder(path: str) -> str:
    return os.path.expanduser(path).rstrip("/") or "/"


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Adds the default where there is one to tell."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, False) else super()._get_help_string(action)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.task",
        description="Trains a segmentation model on a data set of beam_pipelines, evaluates it and exports it. Started "
        "again with the same command, it goes on at the step where it was stopped.",
        formatter_class=Help,
        allow_abbrev=False,
    )
    _add_paths(parser.add_argument_group("data and results"))
    _add_model(parser.add_argument_group("model"))
    _add_batches(parser.add_argument_group("batches and augmentation"))
    _add_objective(parser.add_argument_group("objective"))
    _add_machine(parser.add_argument_group("machine"))
    return parser


def _add_paths(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--dataset", help="the data set's folder, local or gs:// (else AIP_TRAINING_DATA_URI)")
    group.add_argument("--train_split", default="train", help="split to train on")
    group.add_argument("--val_split", default="val", help="split to choose the best model by; '' for none")
    group.add_argument(
        "--output", help=f"folder of the run, local or gs:// (else the folders of AIP_*_DIR, else {DEFAULT_OUTPUT})"
    )
    group.add_argument("--checkpoint_steps", type=arguments.whole(1), default=500, help="updates between checkpoints")
    group.add_argument("--evaluate_epochs", type=arguments.whole(1), default=1, help="epochs between evaluations")
    group.add_argument(
        "--log_steps", type=arguments.whole(1), default=20, help="updates between lines of metrics.jsonl"
    )
    group.add_argument("--verbose", action="store_true", help="show TensorFlow's own log")


_MODEL_OPTIONS = ("backbone", "output_stride", "backbone_weights", "dropout", "batch_norm_momentum", "width")


def _add_model(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--model", choices=tuple(MODELS), default="deeplabv3plus", help="architecture")
    group.add_argument("--backbone", help="of deeplabv3plus: xception65, xception41 or keras_xception")
    group.add_argument(
        "--output_stride", type=arguments.whole(1), help="of deeplabv3plus: 16, or 8, denser and 4 times slower"
    )
    group.add_argument("--backbone_weights", metavar="none|imagenet|PATH", help="of keras_xception; a Keras file")
    group.add_argument("--dropout", type=arguments.number(0, below=1), help="of deeplabv3plus: before the decoder")
    group.add_argument(
        "--batch_norm_momentum", type=arguments.number(0, below=1), help="of moving statistics: near 1 is slow"
    )
    group.add_argument("--width", type=arguments.number(above=0), help="multiplies the numbers of filters")
    group.add_argument(
        "--initial_model",
        metavar="RUN|FILE.keras",
        help="start from its weights, where names and shapes are the same (others start anew: other classes do)",
    )


def _add_batches(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--epochs", type=arguments.whole(1), default=100, help="passes over the train split")
    group.add_argument("--steps", type=arguments.whole(1), help="updates, instead of epochs")
    sizes = group.add_mutually_exclusive_group()
    sizes.add_argument("--batch_per_replica", type=arguments.whole(1), default=4, help="images on a device at a time")
    sizes.add_argument("--global_batch", type=arguments.whole(1), help="images of an update over all devices, instead")
    group.add_argument(
        "--accumulate", type=arguments.whole(1), default=1, help="batches whose gradients make one update"
    )
    group.add_argument(
        "--crop_size", type=arguments.image_size, metavar="HxW", help="what is trained on (else the images' size)"
    )
    group.add_argument("--augment", action=argparse.BooleanOptionalAction, default=True, help="scale, flip, colour")
    group.add_argument(
        "--scale", type=arguments.span, default=(0.5, 2.0), metavar="LEAST,MOST", help="of the random scaling"
    )
    group.add_argument(
        "--color", type=arguments.number(0), default=0.2, help="strength of the random change of colours"
    )
    group.add_argument("--seed", type=arguments.whole(0), default=0, help="of weights, order and augmentation")


def _add_objective(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--class_weights", choices=CLASS_WEIGHTS, default="none", help="from the split's pixel counts")
    group.add_argument(
        "--top_k",
        type=arguments.number(above=0, most=1),
        default=1.0,
        help="share of each image's pixels that count: hardest",
    )
    group.add_argument(
        "--top_k_ramp_steps", type=arguments.whole(0), default=0, help="updates in which that share sinks from 1"
    )
    group.add_argument("--lovasz", type=arguments.number(0), default=0.0, help="weight of the Lovasz-softmax term")
    group.add_argument("--dice", type=arguments.number(0), default=0.0, help="weight of the soft Dice term")
    group.add_argument("--optimizer", choices=OPTIMIZERS, default="sgd", help="SGD with momentum, or AdamW")
    group.add_argument("--learning_rate", type=arguments.number(0), default=0.01, help="the schedule's peak")
    group.add_argument("--schedule", choices=SCHEDULES, default="poly", help="of the learning rate")
    group.add_argument(
        "--warmup", type=arguments.number(0, below=1), default=0.0, help="share of updates in which it rises"
    )
    group.add_argument("--momentum", type=arguments.number(0, below=1), default=0.9, help="of sgd")
    group.add_argument(
        "--weight_decay", type=arguments.number(0), default=1e-4, help="decoupled; not of norms and biases"
    )
    group.add_argument("--clip_norm", type=arguments.number(above=0), help="largest norm of the global gradient")
    group.add_argument(
        "--ema", type=arguments.number(above=0, below=1), help="evaluate averaged weights: momentum, like 0.999"
    )


def _add_machine(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--strategy", choices=STRATEGIES, default="auto", help="on what to compute")
    group.add_argument(
        "--logical_devices", type=arguments.whole(1), help="cut the CPU into so many, to try several replicas"
    )
    group.add_argument("--precision", choices=PRECISIONS, default="float32", help="of layers; float64 is to compare")
    group.add_argument("--xla", action="store_true", help="compile the forward and backward pass; on one device")
    group.add_argument("--deterministic", action="store_true", help="the same bits in each run, at some speed")
    group.add_argument(
        "--steps_per_call",
        type=arguments.whole(1),
        help="updates between looks at the results (else what a second holds)",
    )
    group.add_argument("--shuffle_mib", type=arguments.number(0), default=256.0, help="size of the shuffle buffer")
    group.add_argument(
        "--cache_mib", type=arguments.number(0), default=1024.0, help="keep a split this small in memory"
    )
    group.add_argument(
        "--on_corrupt",
        choices=("fail", "skip"),
        default="fail",
        help="skip reads all records once before the start and leaves out what is damaged",
    )

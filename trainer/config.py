"""The command line and the environment of Vertex AI, as one frozen TrainConfig. Nothing else reads these."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer import arguments, settings
from trainer.cluster import STRATEGIES, Cluster, ClusterError, parse_cluster
from trainer.data.augment import AUGMENTATIONS
from trainer.models import MODEL_OPTIONS, MODELS
from trainer.objective.class_weights import CLASS_WEIGHTS
from trainer.objective.schedules import SCHEDULES
from trainer.objective.terms import TERMS
from trainer.settings import setting, table

# The modules that give these a meaning import TensorFlow, which --help does not wait for; a test compares them.
OPTIMIZERS = ("sgd", "adamw")
PRECISIONS = ("float32", "bfloat16", "float16", "float64")

DEFAULT_OUTPUT = "out/run"
CONFIG = "config.json"  # in the run's folder: what it was started with


@dataclass(frozen=True, kw_only=True)
class Places:
    """Folders, local or gs://. All but the data set's are below `--output`, or where Vertex AI says."""

    dataset: str
    output: str
    checkpoints: str
    logs: str
    export: str


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What is read, in which order, and how it is augmented. Sizes are (height, width)."""

    train_split: str = setting("train", identity=True, help="split to train on")
    val_split: str = setting("val", help="split to choose the best model by; '' for none")
    crop_size: tuple[int, int] | None = setting(
        identity=True, type=arguments.image_size, metavar="HxW", help="size to train on (else that of the images)"
    )
    augment: bool = setting(True, identity=True, type=bool, help="random scale, color and flip")
    augmentations: Mapping[str, Any] = table((row.option for row in AUGMENTATIONS), identity=True)
    seed: int = setting(
        0, identity=True, type=arguments.whole(0), help="seed of the initial weights, the order and the augmentation"
    )
    shuffle_mib: float = setting(256.0, identity=True, type=arguments.number(0), help="size of the shuffle buffer")
    cache_mib: float = setting(1024.0, type=arguments.number(0), help="keep a split up to this size in memory")
    on_corrupt: str = setting(
        "fail",
        choices=("fail", "skip"),
        help="skip reads all records once before training and leaves out those that are damaged",
    )


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The architecture. Options that are None keep the model's own default."""

    name: str = setting("deeplabv3plus", identity=True, name="model", choices=MODELS, help="architecture")
    options: Mapping[str, Any] = table(MODEL_OPTIONS, identity=True)
    initial_model: str | None = setting(
        identity=True,
        type=arguments.place,
        metavar="RUN|FILE.keras",
        help="start from its weights where names and shapes are equal; the others are initialized randomly",
    )

    def given(self) -> dict[str, Any]:
        """The options that are not left to the model."""
        return {name: value for name, value in self.options.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """How many images make an update, and how many updates a run."""

    epochs: int = setting(100, identity=True, type=arguments.whole(1), help="passes over the train split")
    steps: int | None = setting(
        identity=True, type=arguments.whole(1), help="updates to train for, instead of --epochs"
    )
    batch_per_replica: int = setting(
        4, type=arguments.whole(1), exclusive="batch", help="images on one device at a time"
    )
    global_batch: int | None = setting(
        type=arguments.whole(1),
        exclusive="batch",
        help="images of an update over all devices, instead of --batch_per_replica",
    )
    accumulate: int = setting(1, type=arguments.whole(1), help="batches whose gradients make one update")


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """What is minimized."""

    class_weights: str = setting(
        "none",
        identity=True,
        choices=tuple(CLASS_WEIGHTS),
        help="class weights from the pixel counts of the train split",
    )
    hard_pixel_fraction: float = setting(
        1.0,
        identity=True,
        type=arguments.number(above=0, most=1),
        help="fraction of each image's pixels that count: those with the largest loss",
        aliases=("top_k",),
    )
    hard_pixel_ramp_steps: int = setting(
        0,
        identity=True,
        type=arguments.whole(0),
        help="updates over which that fraction falls from 1",
        aliases=("top_k_ramp_steps",),
    )
    terms: Mapping[str, float] = table((term.option for term in TERMS), identity=True)


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How it is minimized."""

    name: str = setting("sgd", identity=True, name="optimizer", choices=OPTIMIZERS, help="SGD with momentum, or AdamW")
    learning_rate: float = setting(0.01, identity=True, type=arguments.number(0), help="peak of the learning rate")
    schedule: str = setting("poly", identity=True, choices=tuple(SCHEDULES), help="schedule of the learning rate")
    warmup: float = setting(
        0.0,
        identity=True,
        type=arguments.number(0, below=1),
        help="share of the updates in which the learning rate rises",
    )
    momentum: float = setting(0.9, identity=True, type=arguments.number(0, below=1), help="momentum of sgd")
    weight_decay: float = setting(
        1e-4, identity=True, type=arguments.number(0), help="decoupled weight decay; biases and norms are left out"
    )
    clip_norm: float | None = setting(
        identity=True, type=arguments.number(above=0), help="largest norm of the gradient of the global batch"
    )
    ema: float | None = setting(
        identity=True,
        type=arguments.number(above=0, below=1),
        help="evaluate an exponential moving average of the weights, with this momentum, like 0.999",
    )


@dataclass(frozen=True, kw_only=True)
class MachineConfig:
    """Devices and precision."""

    strategy: str = setting("auto", choices=STRATEGIES, help="devices to train on")
    logical_devices: int | None = setting(
        type=arguments.whole(1), help="split the CPU into so many devices, to try several replicas"
    )
    precision: str = setting(
        "float32", identity=True, choices=PRECISIONS, help="precision of the layers; float64 is for comparisons"
    )
    xla: bool = setting(False, type=bool, help="compile the forward and backward pass with XLA; on one device only")
    deterministic: bool = setting(False, type=bool, help="the same bits in every run; somewhat slower")
    steps_per_call: int | None = setting(
        type=arguments.whole(1), help="updates in one call of the graph (else as many as fit into a second)"
    )


@dataclass(frozen=True, kw_only=True)
class ReportingConfig:
    """Checkpoints, evaluations and logs, and how often."""

    checkpoint_steps: int = setting(500, type=arguments.whole(1), help="updates between checkpoints")
    evaluate_epochs: int = setting(1, type=arguments.whole(1), help="epochs between evaluations")
    log_steps: int = setting(20, type=arguments.whole(1), help="updates between lines of metrics.jsonl")
    verbose: bool = setting(False, type=bool, help="show TensorFlow's own log, and tracebacks")


SECTIONS = {
    "data": (DataConfig, "data and augmentation"),
    "model": (ModelConfig, "model"),
    "batches": (BatchConfig, "batches"),
    "objective": (ObjectiveConfig, "objective"),
    "optimizer": (OptimizerConfig, "optimizer"),
    "machine": (MachineConfig, "machine"),
    "reporting": (ReportingConfig, "reporting"),
}


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """All settings of a training run."""

    places: Places
    data: DataConfig
    model: ModelConfig
    batches: BatchConfig
    objective: ObjectiveConfig
    optimizer: OptimizerConfig
    machine: MachineConfig
    reporting: ReportingConfig
    cluster: Cluster
    reports_metric: bool

    def to_json(self) -> dict[str, Any]:
        """Plain values by the names of the options, for `config.json`."""
        flat = vars(self.places) | {"cluster": vars(self.cluster), "reports_metric": self.reports_metric}
        for name in SECTIONS:
            flat |= settings.flat(getattr(self, name))
        values: dict[str, Any] = json.loads(json.dumps(flat))
        return values

    @property
    def identity(self) -> dict[str, Any]:
        """The values that must not change when a run is resumed: all that decide the weights, but for the batches,
        whose product is compared, and the data set, which has a fingerprint.
        """
        values = self.to_json()
        return {name: values[name] for name in _IDENTITY}


_IDENTITY = settings.identity_defaults(section for section, _ in SECTIONS.values())


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """`name was A and is B`, for every value of the identity `now` that differs from that of an earlier run. An option
    that did not exist then had the effect of its default.
    """
    defaults = json.loads(json.dumps(dict(_IDENTITY)))
    earlier = {name: before.get(name, defaults.get(name)) for name in now}
    return [f"{name} was {earlier[name]} and is {now[name]}" for name in now if now[name] != earlier[name]]


def read_identity(text: str) -> dict[str, Any]:
    """The identity in the text of a `config.json`. Raises ValueError where it is not that of a training run."""
    try:
        return dict(json.loads(text)["identity"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError("it is not the configuration of a training run") from error


def parse_train(argv: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> TrainConfig:
    """Arguments override what Vertex AI sets. Raises SystemExit with a message where they do not fit together."""
    environment = os.environ if environment is None else environment
    parser = train_parser()
    args = vars(parser.parse_args(argv))
    try:
        cluster = parse_cluster(environment)
    except ClusterError as error:
        parser.error(str(error))
    dataset = args.pop("dataset") or environment.get("AIP_TRAINING_DATA_URI", "")
    if not dataset:
        parser.error("--dataset is needed: the folder that `python -m beam_pipelines.build` wrote")
    places = Places(dataset=arguments.dataset(dataset), **_places(args.pop("output"), environment))
    sections: dict[str, Any] = {name: settings.take(section, args) for name, (section, _) in SECTIONS.items()}
    return TrainConfig(places=places, cluster=cluster, reports_metric="CLOUD_ML_TRIAL_ID" in environment, **sections)


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


def _folder(path: str) -> str:
    return os.path.expanduser(path).rstrip("/") or "/"


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Adds the default where there is one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, False) else super()._get_help_string(action)


def train_parser() -> argparse.ArgumentParser:
    """The parser of `python -m trainer.task`."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.task",
        description="Trains a segmentation model on a data set of beam_pipelines, evaluates it and exports it. The "
        "same command, run again, resumes at the step where it was stopped.",
        formatter_class=Help,
        allow_abbrev=False,
    )
    places = parser.add_argument_group("places")
    places.add_argument("--dataset", help="the data set's folder, local or gs:// (else AIP_TRAINING_DATA_URI)")
    places.add_argument(
        "--output", help=f"folder of the run, local or gs:// (else the folders of AIP_*_DIR, else {DEFAULT_OUTPUT})"
    )
    for section, title in SECTIONS.values():
        settings.add_options(parser, section, title)
    return parser

"""The settings of a training run by subject: frozen dataclasses whose fields are the options of `trainer.task`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from trainer import arguments
from trainer.cluster import STRATEGIES
from trainer.data.augment import AUGMENTATIONS
from trainer.models import MODEL_OPTIONS, MODELS, having
from trainer.objective.class_weights import CLASS_WEIGHTS
from trainer.objective.schedules import SCHEDULES
from trainer.objective.terms import TERMS
from trainer.settings import Needs, one_of, other_than, setting, table
from trainer.tracking import TRACKERS

# The modules that define these import TensorFlow, which --help must not wait for; a test compares them.
OPTIMIZERS = ("sgd", "adamw")
SAMPLINGS = ("uniform", "class_uniform")
PRECISIONS = ("float32", "bfloat16", "float16", "float64")

_TRAINED_BACKBONE = Needs("freeze_backbone", lambda is_frozen: not is_frozen, "no --freeze_backbone")
_AUGMENTATIONS = ", ".join(f"--{row.option.name}" for row in AUGMENTATIONS)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What is read, in which order, and how it is augmented. Sizes are (height, width) in pixels."""

    train_split: str = setting(
        "train", identity=True, type=arguments.names, metavar="NAME,...", help="split to train on, or several"
    )
    mix: tuple[float, ...] | None = setting(
        identity=True,
        type=arguments.shares,
        metavar="W,...",
        help="the share of each data set in an epoch, such as 0.7,0.3 (else in proportion to their images)",
    )
    sampling: str = setting(
        "uniform",
        identity=True,
        choices=SAMPLINGS,
        help="uniform: each image once an epoch; class_uniform: half of the images, and as many crops around classes "
        "that are drawn with equal probability",
    )
    val_split: str = setting("val", help="split that selects the best model; '' for none")
    crop_size: tuple[int, int] | None = setting(
        identity=True,
        type=arguments.image_size,
        metavar="HxW",
        help="image size to train on (else the size in the data set)",
    )
    augment: bool = setting(True, identity=True, type=bool, help=f"augment the training images: {_AUGMENTATIONS}")
    augmentations: Mapping[str, Any] = table(
        (replace(row.option, needs=(one_of("augment", True),)) for row in AUGMENTATIONS), identity=True
    )
    seed: int = setting(
        0, identity=True, type=arguments.whole(0), help="seed of the initial weights, the order and the augmentation"
    )
    shuffle_mib: float = setting(
        256.0, identity=True, type=arguments.number(0), help="size of the shuffle buffer of each data set"
    )
    cache_mib: float = setting(
        1024.0, type=arguments.number(0), help="keep what is read of a data set in memory up to this size"
    )
    on_corrupt: str = setting(
        "fail",
        choices=("fail", "skip"),
        help="what to do about damaged records: fail when one is read, or skip them, which reads all records once "
        "before training",
    )

    @property
    def train_splits(self) -> tuple[str, ...]:
        return tuple(self.train_split.split(","))


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The architecture. An option that is None has the model's own default."""

    name: str = setting("deeplabv3plus", identity=True, name="model", choices=MODELS, help="architecture")
    options: Mapping[str, Any] = table(MODEL_OPTIONS, identity=True)
    initial_model: str | None = setting(
        identity=True,
        type=arguments.place,
        metavar="RUN|FILE.keras",
        help="start from the weights of this model that have the same name and shape; the others are initialized "
        "randomly",
    )

    def given(self) -> dict[str, Any]:
        """The options that are set."""
        return {name: value for name, value in self.options.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """The number of images in an update, and of updates in a run."""

    epochs: int = setting(
        100, identity=True, type=arguments.whole(1), exclusive="length", help="passes over the train split"
    )
    steps: int | None = setting(
        identity=True, type=arguments.whole(1), exclusive="length", help="updates to train for, instead of --epochs"
    )
    batch_per_replica: int = setting(
        4, type=arguments.whole(1), exclusive="batch", help="images on each device at a time"
    )
    global_batch: int | None = setting(
        type=arguments.whole(1),
        exclusive="batch",
        help="images of an update over all devices, instead of --batch_per_replica",
    )
    accumulate: int = setting(1, type=arguments.whole(1), help="batches whose gradients are added up for one update")


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """What is minimized."""

    class_weights: str = setting(
        "none",
        identity=True,
        choices=tuple(CLASS_WEIGHTS),
        help="weights of the classes, from the pixel counts of the train split",
    )
    label_smoothing: float = setting(
        0.0,
        identity=True,
        type=arguments.number(0, below=1),
        help="share of each label that cross entropy spreads over all classes",
    )
    hard_pixel_fraction: float = setting(
        1.0,
        identity=True,
        type=arguments.number(above=0, most=1),
        help="fraction of the pixels of each image that the loss averages: those with the largest loss",
        aliases=("top_k",),
    )
    hard_pixel_ramp_steps: int = setting(
        0,
        identity=True,
        type=arguments.whole(0),
        help="updates over which --hard_pixel_fraction falls from 1 to its value",
        aliases=("top_k_ramp_steps",),
        needs=(other_than("hard_pixel_fraction", 1.0),),
    )
    terms: Mapping[str, float] = table((term.option for term in TERMS), identity=True)


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How the objective is minimized."""

    name: str = setting("sgd", identity=True, name="optimizer", choices=OPTIMIZERS, help="SGD with momentum, or AdamW")
    learning_rate: float = setting(0.01, identity=True, type=arguments.number(0), help="peak learning rate")
    schedule: str = setting(
        "poly", identity=True, choices=tuple(SCHEDULES), help="how the learning rate falls after the peak"
    )
    warmup: float = setting(
        0.0,
        identity=True,
        type=arguments.number(0, below=1),
        help="fraction of the updates in which the learning rate rises to the peak",
    )
    momentum: float = setting(
        0.9,
        identity=True,
        type=arguments.number(0, below=1),
        help="momentum of sgd",
        needs=(one_of("optimizer", "sgd"),),
    )
    backbone_learning_rate_multiplier: float = setting(
        1.0,
        identity=True,
        type=arguments.number(above=0),
        help="factor of the learning rate of the backbone, also in its weight decay",
        needs=(having("backbone"), _TRAINED_BACKBONE),
    )
    head_learning_rate_multiplier: float = setting(
        1.0,
        identity=True,
        type=arguments.number(above=0),
        help="factor of the learning rate of all that is not the backbone, also in its weight decay",
        needs=(having("backbone"),),
    )
    freeze_backbone: bool = setting(
        False,
        identity=True,
        type=bool,
        help="keep the weights of the backbone, with its batch normalization in inference mode",
        needs=(having("backbone"),),
    )
    freeze_batch_norm: bool = setting(
        False,
        identity=True,
        type=bool,
        help="keep scale, offset and moving statistics of batch normalization, and normalize with these",
    )
    weight_decay: float = setting(
        1e-4,
        identity=True,
        type=arguments.number(0),
        help="decoupled weight decay; not applied to biases and normalization layers",
    )
    clip_norm: float | None = setting(
        identity=True, type=arguments.number(above=0), help="clip the gradient of the global batch to this norm"
    )
    ema: float | None = setting(
        identity=True,
        type=arguments.number(above=0, below=1),
        help="evaluate and keep an exponential moving average of the weights with this momentum, such as 0.999",
    )


@dataclass(frozen=True, kw_only=True)
class MachineConfig:
    """Devices and precision."""

    strategy: str = setting("auto", choices=STRATEGIES, help="devices to train on")
    logical_devices: int | None = setting(
        type=arguments.whole(1), help="split the CPU into this many devices, to try several replicas"
    )
    precision: str = setting(
        "float32", identity=True, choices=PRECISIONS, help="precision of the layers; float64 is meant for comparisons"
    )
    xla: bool = setting(False, type=bool, help="compile the forward and backward pass with XLA; only for one device")
    deterministic: bool = setting(False, type=bool, help="give the same bits in every run; somewhat slower")
    steps_per_call: int | None = setting(
        type=arguments.whole(1), help="updates per call of the graph (else as many as take about a second)"
    )


@dataclass(frozen=True, kw_only=True)
class ReportingConfig:
    """Checkpoints, evaluations and logs: how often each is written, and how many evaluations may be in vain."""

    checkpoint_steps: int = setting(500, type=arguments.whole(1), help="updates between checkpoints")
    evaluate_epochs: int = setting(1, type=arguments.whole(1), help="epochs between evaluations")
    patience: int = setting(
        0,
        type=arguments.whole(0),
        help="stop after this many evaluations without a better validation mean IoU; 0 for never",
        needs=(other_than("val_split", ""),),
    )
    log_steps: int = setting(20, type=arguments.whole(1), help="updates between lines of metrics.jsonl")
    track: str | None = setting(
        choices=tuple(TRACKERS), help="follow the run in an experiment tracker, where its own settings say"
    )
    no_report: bool = setting(
        False,
        type=bool,
        help="write no report; a later start without this option does",
        needs=(other_than("val_split", ""),),
    )
    no_export: bool = setting(False, type=bool, help="write no SavedModel; a later start without this option does")
    verbose: bool = setting(False, type=bool, help="show TensorFlow's log, and tracebacks of errors")


SECTIONS = {
    "data": (DataConfig, "data and augmentation"),
    "model": (ModelConfig, "model"),
    "batches": (BatchConfig, "batches"),
    "objective": (ObjectiveConfig, "objective"),
    "optimizer": (OptimizerConfig, "optimizer"),
    "machine": (MachineConfig, "machine"),
    "reporting": (ReportingConfig, "reporting"),
}

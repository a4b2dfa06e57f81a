"""The command line and Vertex AI's environment variables as one frozen TrainConfig. No other module reads them."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer import arguments, recipes, settings
from trainer.cluster import Cluster, ClusterError, parse_cluster
from trainer.sections import (
    SECTIONS,
    BatchConfig,
    DataConfig,
    MachineConfig,
    ModelConfig,
    ObjectiveConfig,
    OptimizerConfig,
    ReportingConfig,
)

DEFAULT_OUTPUT = "out/run"
CONFIG = "config.json"  # in the folder of a run: the settings that it was started with
FINISHED = "finished.json"  # there, written last: the report and the export


@dataclass(frozen=True, kw_only=True)
class Places:
    """Folders, local or gs://. All except those of data sets are below `--output`, or where Vertex AI says.

    Attributes:
      dataset: the data set that is trained and validated on, and whose normalization the model has.
      other_datasets: data sets that are only trained on.
    """

    dataset: str
    output: str
    checkpoints: str
    logs: str
    export: str
    other_datasets: tuple[str, ...] = ()

    @property
    def datasets(self) -> tuple[str, ...]:
        return self.dataset, *self.other_datasets


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

    @property
    def reads(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """Folder of each data set -> option -> the splits of the data set that it names and that are read."""
        trained = {"train_split": self.data.train_splits}
        validated = {"val_split": (self.data.val_split,)} if self.data.val_split else {}
        return {self.places.dataset: trained | validated} | dict.fromkeys(self.places.other_datasets, trained)

    def to_json(self) -> dict[str, Any]:
        """Plain values by the names of the options, for `config.json`."""
        flat = vars(self.places) | {"cluster": vars(self.cluster), "reports_metric": self.reports_metric}
        for name in SECTIONS:
            flat |= settings.flat(getattr(self, name))
        values: dict[str, Any] = json.loads(json.dumps(flat))
        return values

    @property
    def identity(self) -> dict[str, Any]:
        """The values that must not change when a run is resumed: all that determine its weights, except the batch
        options, of which only the global batch is compared, and the data set, which has a fingerprint.
        """
        values = self.to_json()
        return {name: values[name] for name in _IDENTITY}


LENGTH = ("epochs", "steps")
_IDENTITY = settings.identity_defaults(section for section, _ in SECTIONS.values())


def datasets_identity(identities: Sequence[str]) -> str | list[str]:
    """The value of "dataset" in the identity of a run: that of its data set, or of each."""
    return identities[0] if len(identities) == 1 else list(identities)


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """`name was A and is B`, for each value of the identity `now` that differs from the identity of an earlier run.

    An option that did not exist then counts as its default.
    """
    defaults = json.loads(json.dumps(dict(_IDENTITY)))
    earlier = {name: before.get(name, defaults.get(name)) for name in now}
    return [f"{name} was {earlier[name]} and is {now[name]}" for name in now if now[name] != earlier[name]]


def another_run(folder: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Why a run of identity `now` can't resume the run of identity `before` in its folder; None if it can."""
    changed = ", ".join(changes(before, now))
    if not changed:
        return None
    return f"{folder} contains another run: {changed}. {new_run(folder)}"


def new_run(folder: str) -> str:
    """What to do instead of resuming the run in a folder with other values."""
    return (
        f"Set another --output, or the same values; with --initial_model={folder} a run in another --output starts "
        "from the weights of this one"
    )


def without_length(now: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """The identity `now` with the length of the run `before`, which may be made longer when it is finished."""
    return {name: before.get(name, _IDENTITY[name]) if name in LENGTH else value for name, value in now.items()}


def is_shorter(now: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Whether the identity `now` has fewer updates than the run `before`, on the same data and as many hosts.

    How many updates an epoch has depends on how evenly hosts share the images: False in case of doubt.
    """
    (epochs, steps), (earlier_epochs, earlier_steps) = (
        [each.get(name, _IDENTITY[name]) for name in LENGTH] for each in (now, before)
    )
    if steps and earlier_steps:
        return bool(steps < earlier_steps)
    if not steps and not earlier_steps:
        return bool(epochs < earlier_epochs)
    images, hosts, batch = (before.get(name) for name in ("images", "hosts", "global_batch"))
    if not images or not hosts or not batch:
        return False
    fewest, most = -(-images // batch), -(-images * hosts // batch)  # updates of an epoch
    return bool(steps < earlier_epochs * fewest if steps else epochs * most < earlier_steps)


def read_identity(content: str | bytes) -> dict[str, Any]:
    """The identity in the content of a `config.json`. Raises ValueError if it is not the file of a training run."""
    try:
        return dict(json.loads(content)["identity"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError("it is not the configuration of a training run") from error


def expand(argv: Sequence[str] | None = None) -> recipes.Expanded:
    """The command line with the values of its recipe in place of `--recipe`. Raises RecipeError."""
    return recipes.expanded(sys.argv[1:] if argv is None else argv, train_parser(), _options())


def print_config(argv: Sequence[str] | None = None) -> bool:
    """Prints the values if the command line has `--print_config`. -> whether it has."""
    arguments = sys.argv[1:] if argv is None else argv
    if "--print_config" not in arguments:
        return False
    rows = describe(arguments)
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, value, source in rows:
        print(f"{name:<{widths[0]}}  {value:<{widths[1]}}  {source}")
    return True


def _options() -> list[settings.Option]:
    return [each.option for section, _ in SECTIONS.values() for each in settings.declared_by(section)]


def describe(argv: Sequence[str] | None = None) -> list[tuple[str, str, str]]:
    """(option, value, source) of every option of a training run; the source is `default` if nothing sets it.

    Raises:
      SystemExit: as `parse_train`, but no data set is needed.
    """
    config = parse_train([*(sys.argv[1:] if argv is None else argv), "--dataset=."], {})
    found = expand(argv)
    flat: dict[str, Any] = {}
    for name in SECTIONS:
        flat |= settings.flat(getattr(config, name))
    return [(name, str(value), found.source_of.get(name, "default")) for name, value in flat.items()]


def parse_train(argv: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> TrainConfig:
    """Parses a command line. Arguments override the recipe, and what Vertex AI sets in the environment.

    Raises:
      SystemExit: with code 2 and a message on stderr, if an argument is wrong or has no effect with another one.
    """
    environment = os.environ if environment is None else environment
    parser = train_parser()
    try:
        argv = expand(argv).argv
    except recipes.RecipeError as error:
        parser.error(str(error))
    args = vars(parser.parse_args(argv))
    if problem := settings.contradiction(_options(), settings.given(parser, argv), args):
        parser.error(problem)
    del args[recipes.OPTION], args["print_config"]
    try:
        cluster = parse_cluster(environment)
    except ClusterError as error:
        parser.error(str(error))
    given = args.pop("dataset") or arguments.datasets(environment.get("AIP_TRAINING_DATA_URI") or "")
    if not given:
        parser.error("--dataset is required: the folder that `python -m beam_pipelines.build` wrote")
    dataset, *others = given
    places = Places(dataset=dataset, other_datasets=tuple(others), **_places(args.pop("output"), environment))
    sections: dict[str, Any] = {name: settings.take(section, args) for name, (section, _) in SECTIONS.items()}
    if problem := _data_problem(places, sections["data"]):
        parser.error(problem)
    return TrainConfig(places=places, cluster=cluster, reports_metric="CLOUD_ML_TRIAL_ID" in environment, **sections)


def _data_problem(places: Places, data: DataConfig) -> str | None:
    """What is wrong with the splits and the mix; None if nothing is."""
    if data.val_split in data.train_splits:
        return (
            f"argument --val_split: {data.val_split} is also trained on, so its scores would say nothing; set "
            "--val_split='' for none, or another split"
        )
    if data.mix is not None and not places.other_datasets:
        return "argument --mix: --dataset has one data set, so that it has all of an epoch; leave it out"
    if data.mix is not None and len(data.mix) != len(places.datasets):
        return f"argument --mix: {len(data.mix)} shares for {len(places.datasets)} data sets in --dataset"
    return None


def _places(output: str | None, environment: Mapping[str, str]) -> dict[str, Any]:
    """The folders to write to: below --output, else where Vertex AI says, else below the default.

    The folders of Vertex AI have a common base: BASE/checkpoints/, BASE/logs/, BASE/model/.
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


def train_parser() -> argparse.ArgumentParser:
    """The parser of `python -m trainer.task`."""
    parser = arguments.Parser(
        prog="python -m trainer.task",
        description="Trains a segmentation model on a data set of beam_pipelines, evaluates it and exports it. Run the "
        "same command again to resume at the step where it was stopped.",
        formatter_class=arguments.HelpFormatter,
        allow_abbrev=False,
    )
    places = parser.add_argument_group("places")
    places.add_argument(
        "--dataset",
        type=arguments.datasets,
        metavar="FOLDER,...",
        help="folder of the data set, local or gs:// (else AIP_TRAINING_DATA_URI); of several, which have one label "
        "table, the first is also validated on",
    )
    places.add_argument(
        "--output",
        type=arguments.place,
        help=f"folder of the run, local or gs:// (else the folders of AIP_*_DIR, else {DEFAULT_OUTPUT})",
    )
    values = parser.add_argument_group("recipe")
    values.add_argument(
        f"--{recipes.OPTION}",
        metavar="NAME|FILE",
        help="values for the options below, which other arguments override: a YAML file of `option: value`, or "
        f"{', '.join(recipes.names())}",
    )
    values.add_argument(
        "--print_config", action="store_true", help="print the value of every option and where it is from, and exit"
    )
    for section, title in SECTIONS.values():
        settings.add_options(parser, section, title)
    return parser

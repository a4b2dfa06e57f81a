"""A hyperparameter search: what it tunes, parsed from --tune, and its part of a request."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from launch.errors import LaunchError
from trainer.config import parse_train

METRIC = "mean_iou"  # the name under which trainer.training.journal reports it; a test compares the two
DEFAULT_TUNE = "learning_rate=0.001..0.1:log"
_TUNE = re.compile(r"(\w+)=(?:(.+)\.\.(.+?)(:log)?|([^:]+))")


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A trainer option that a search sets: to one of `values`, or if there are none, from `low` to `high`."""

    name: str
    values: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    whole: bool = False
    logarithmic: bool = False

    def to_request(self) -> dict[str, Any]:
        """The ParameterSpec of a request."""
        if self.values:
            return {"parameterId": self.name, "categoricalValueSpec": {"values": list(self.values)}}
        kind, number = ("integerValueSpec", int) if self.whole else ("doubleValueSpec", float)
        return {
            "parameterId": self.name,
            kind: {"minValue": number(self.low), "maxValue": number(self.high)},
            "scaleType": "UNIT_LOG_SCALE" if self.logarithmic else "UNIT_LINEAR_SCALE",
        }

    def __str__(self) -> str:
        if self.values:
            return f"{self.name} in {', '.join(self.values)}"
        return f"{self.name} {self.low:g} to {self.high:g}" + (" (log)" if self.logarithmic else "")


@dataclass(frozen=True, kw_only=True)
class Search:
    """A hyperparameter search for the highest mean IoU."""

    parameters: tuple[Parameter, ...]
    trials: int
    parallel_trials: int

    def to_request(self) -> dict[str, Any]:
        """The fields of a HyperparameterTuningJob besides its trials' job."""
        return {
            "studySpec": {
                "metrics": [{"metricId": METRIC, "goal": "MAXIMIZE"}],
                "parameters": [parameter.to_request() for parameter in self.parameters],
            },
            "maxTrialCount": self.trials,
            "parallelTrialCount": self.parallel_trials,
        }


def parse_search(tune: Sequence[str], trials: int, parallel_trials: int, trainer_options: Sequence[str]) -> Search:
    """The search that the values of --tune describe.

    Raises:
      LaunchError: a value is malformed, or the search has nothing to compare trials by.
      SystemExit: the trainer's parser does not accept a value of the search.
    """
    parameters = tuple(_parse_parameter(text, trainer_options) for text in tune)
    names = [parameter.name for parameter in parameters]
    if len(set(names)) < len(names):
        raise LaunchError(f"--tune: an option is tuned twice: {', '.join(names)}")
    if not parse_train([*trainer_options], {}).data.val_split:
        raise LaunchError("--tune compares trials by the mean IoU of --val_split, which is empty: name a split")
    return Search(parameters=parameters, trials=trials, parallel_trials=min(parallel_trials, trials))


def _parse_parameter(text: str, trainer_options: Sequence[str]) -> Parameter:
    found = _TUNE.fullmatch(text)
    if not found:
        raise LaunchError(f"--tune={text} is not NAME=LOW..HIGH, NAME=LOW..HIGH:log or NAME=VALUE,VALUE")
    name, low, high, log, values = found.groups()
    if any(option.partition("=")[0] == f"--{name}" for option in trainer_options):
        raise LaunchError(f"--{name} is both set and tuned: leave out one of them")
    if not values:
        return _parse_range(text, name, (low, high), bool(log), trainer_options)
    choices = tuple(values.split(","))
    for choice in choices:
        _parsed_by_trainer(name, choice, trainer_options)
    return Parameter(name=name, values=choices)


def _parse_range(
    text: str, name: str, ends: tuple[str, str], logarithmic: bool, trainer_options: Sequence[str]
) -> Parameter:
    parsed = [_parsed_by_trainer(name, end, trainer_options) for end in ends]
    if any(type(end) not in (int, float) for end in parsed):
        raise LaunchError(f"--tune={text}: --{name} is not a number; list its values: {name}=VALUE,VALUE")
    low, high = map(float, parsed)
    if low >= high or (logarithmic and low <= 0):
        raise LaunchError(f"--tune={text}: LOW must be less than HIGH, and more than 0 with :log")
    return Parameter(name=name, low=low, high=high, whole=isinstance(parsed[0], int), logarithmic=logarithmic)


def _parsed_by_trainer(name: str, value: str, trainer_options: Sequence[str]) -> Any:
    """`--name=value` as the trainer parses it."""
    train = parse_train([*trainer_options, f"--{name}={value}"], {})
    return train.to_json()[name]

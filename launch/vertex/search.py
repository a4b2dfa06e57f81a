"""A hyperparameter search: its parameters, parsed from --tune, and its part of a request."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launch.errors import LaunchError
from trainer import settings
from trainer.config import parse_train, train_parser
from trainer.sections import SECTIONS

METRIC = "mean_iou"  # as in trainer.training.journal; a test compares the two
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
      LaunchError: a value is malformed, or there is no split to compare trials on.
      SystemExit: the trainer's parser does not accept a value, or two values together.
    """
    parameters = tuple(_parse_parameter(text, tune, trainer_options) for text in tune)
    names = [parameter.name for parameter in parameters]
    if len(set(names)) < len(names):
        raise LaunchError(f"--tune: an option is tuned twice: {', '.join(names)}")
    if not parse_train([*trainer_options], {}).data.val_split:
        raise LaunchError("--tune compares trials by the mean IoU of --val_split, which is empty: name a split")
    return Search(parameters=parameters, trials=trials, parallel_trials=min(parallel_trials, trials))


def _parse_parameter(text: str, tune: Sequence[str], trainer_options: Sequence[str]) -> Parameter:
    """The parameter that `text` describes; each of its values is parsed together with each value of the others."""
    _check_option(text, _name_of(text.partition("=")[0]))
    _, _, _, log, values = _match(text).groups()
    name = _tuned(text)
    if any(_name_of(option.removeprefix("--").partition("=")[0]) == name for option in trainer_options):
        raise LaunchError(f"--{name} is both set and tuned: leave out one of them")
    others = {_tuned(each): _values_in(each) for each in tune if _tuned(each) != name}
    parsed = [_parsed_by_trainer(name, value, others, trainer_options) for value in _values_in(text)]
    if not values:
        return _make_range(text, name, parsed, bool(log))
    return Parameter(name=name, values=tuple(values.split(",")))


def _check_option(text: str, name: str) -> None:
    """Raises LaunchError unless the option `name` of the trainer can have another value in each trial."""
    options = {
        each.option.name: each.option for section, _ in SECTIONS.values() for each in settings.declared_by(section)
    }
    if name in options and options[name].type is not bool and name != "val_split":
        return
    if f"--{name}" not in train_parser()._option_string_actions:
        near = difflib.get_close_matches(name, options, 1)
        hint = f"; did you mean --{near[0]}?" if near else ""
        raise LaunchError(f"--tune={text}: the trainer has no option --{name}{hint}")
    reasons = {"val_split": "trials are compared by their scores on it", "dataset": "trials train on the same data"}
    reason = "it takes no value" if name in options and options[name].type is bool else reasons.get(name, "")
    raise LaunchError(f"--tune={text}: --{name} can't be tuned{reason and f', {reason}'}; set it without --tune")


def _match(text: str) -> re.Match[str]:
    """NAME, LOW, HIGH, `:log` and VALUE,... of a --tune. Raises LaunchError if it is malformed."""
    found = _TUNE.fullmatch(text)
    if not found:
        raise LaunchError(f"--tune={text} is not NAME=LOW..HIGH, NAME=LOW..HIGH:log or NAME=VALUE,VALUE")
    return found


def _tuned(text: str) -> str:
    """The name of the option that a --tune is about."""
    return _name_of(_match(text)[1])


def _name_of(option: str) -> str:
    """The name of a trainer option that may be given by an earlier name."""
    declared = (each.option for section, _ in SECTIONS.values() for each in settings.declared_by(section))
    return next((each.name for each in declared if option in each.aliases), option)


def _values_in(text: str) -> list[str]:
    """The values of a --tune, or the ends of its range."""
    _, low, high, _, values = _match(text).groups()
    return values.split(",") if values else [low, high]


def _make_range(text: str, name: str, parsed: Sequence[Any], logarithmic: bool) -> Parameter:
    if any(type(end) not in (int, float) for end in parsed):
        raise LaunchError(f"--tune={text}: --{name} is not a number; list its values: {name}=VALUE,VALUE")
    low, high = map(float, parsed)
    if low >= high or (logarithmic and low <= 0):
        raise LaunchError(f"--tune={text}: LOW must be less than HIGH, and more than 0 with :log")
    return Parameter(name=name, low=low, high=high, whole=isinstance(parsed[0], int), logarithmic=logarithmic)


def _parsed_by_trainer(
    name: str, value: str, others: Mapping[str, Sequence[str]], trainer_options: Sequence[str]
) -> Any:
    """`--name=value` as the trainer parses it, together with each value of `others`.

    Whether an option has an effect depends on single other options, so not all combinations have to be tried.
    """
    first = {other: values[0] for other, values in others.items()}
    trials = [first, *({**first, other: each} for other, values in others.items() for each in values[1:])]
    for trial in trials:
        given = [f"--{option}={each}" for option, each in ({name: value} | trial).items()]
        train = parse_train([*trainer_options, *given], {})
    return train.to_json()[name]

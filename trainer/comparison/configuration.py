"""The settings in which runs differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from trainer.comparison.runs import Run
from trainer.config import Places
from trainer.sections import SECTIONS
from trainer.settings import identity_defaults

UNKNOWN = "\N{EN DASH}"  # an earlier version had no such option, or there is no config.json
_NO_SETTINGS = {field.name for field in fields(Places)} | {"cluster", "reports_metric", "verbose"}


@dataclass(frozen=True)
class Setting:
    """An option, and its value in each run, by the name of the run."""

    name: str
    values: Mapping[str, str]


def differing(runs: Sequence[Run]) -> list[Setting]:
    """The settings that are not the same in all runs that have a config.json, in the order of the options."""
    settings = {run.name: _settings(run.config) for run in runs if run.config}
    names = dict.fromkeys(name for values in settings.values() for name in values)
    rows = [Setting(name, {run.name: settings.get(run.name, {}).get(name, UNKNOWN) for run in runs}) for name in names]
    return [row for row in rows if len({row.values[name] for name in settings}) > 1]


def _settings(config: Mapping[str, Any]) -> dict[str, str]:
    """Option -> value as text. The identity also has what follows from options and data: it is what counts."""
    defaults = identity_defaults(section for section, _ in SECTIONS.values())
    recorded = config.get("config", {}) | config.get("identity", {})
    known = {name: value for name, value in recorded.items() if name not in _NO_SETTINGS - {"dataset"}}
    if "dataset" in known:
        known["dataset"] = config.get("identity", {}).get("dataset")
    return {name: _text(value) for name, value in (json.loads(json.dumps(defaults)) | known).items()}


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, list):
        return ",".join(map(_text, value))
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)

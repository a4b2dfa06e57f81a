"""What of a run an experiment tracker gets: its settings and the fingerprints of its data sets."""

from __future__ import annotations

import os

from rich.console import Console

from trainer.tracking.facts import About
from trainer.tracking.follower import Follower, NoFollower
from trainer.training.inputs import Inputs
from trainer.training.resume import identity_of

_OF_THE_MACHINES = ("cluster", "reports_metric")  # addresses of hosts are nobody else's business


def make_follower(inputs: Inputs, console: Console) -> Follower:
    """The follower of a run; one that does nothing if it is not tracked, and on hosts other than the chief."""
    config = inputs.config
    if config.reporting.track is None or not config.cluster.is_chief:
        return NoFollower()
    return Follower(config.reporting.track, about(inputs), config.places.output, console)


def about(inputs: Inputs) -> About:
    """All options of the run with their values, and what is known only from its data sets and devices."""
    identity, output = identity_of(inputs), inputs.config.places.output
    facts = {name: identity[name] for name in ("global_batch", "hosts", "images")}
    facts |= {"dataset_fingerprint": identity["dataset"], "labels": inputs.train.manifest.labels.name}
    values = {name: value for name, value in inputs.config.to_json().items() if name not in _OF_THE_MACHINES}
    values |= facts
    name = os.path.basename(output.rstrip("/")) or output
    return About(name=name, settings={name: value for name, value in values.items() if value is not None})

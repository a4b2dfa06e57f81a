"""The table of tortures. The next one is an entry here, or a reader in `tests.torture.readers`."""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.torture import disturbed, kills
from tests.torture.readers import READERS
from tests.torture.run import Result, torture

CASES, KILLS = "cases", "kills"  # options: how many of each reader, and of whole commands


@dataclass(frozen=True)
class Torture:
    """`run` gets the seed, the number of cases, which is that of the option `scaled_by`, and an empty folder."""

    run: Callable[[int, int, Path], Result]
    scaled_by: str


def _torture_reader(name: str, seed: int, cases: int, _: Path) -> Result:
    return torture(name, seed, 0, max(1, cases // READERS[name]().slowness))


TORTURES: Mapping[str, Torture] = {
    **{name: Torture(functools.partial(_torture_reader, name), CASES) for name in READERS},
    "killed build": Torture(kills.torture_builds, KILLS),
    "killed update": Torture(kills.torture_updates, KILLS),
    "killed training": Torture(kills.torture_training, KILLS),
    "full disk": Torture(disturbed.torture_disks, KILLS),
    "two builders": Torture(disturbed.torture_two_builders, KILLS),
    "archive as input": Torture(disturbed.torture_archives, KILLS),
    "storage faults": Torture(disturbed.torture_storage, KILLS),
}


def result_of(name: str, seed: int, options: Mapping[str, int]) -> Result:
    """Runs one of `TORTURES`."""
    chosen, began = TORTURES[name], time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        result = chosen.run(seed, options[chosen.scaled_by], Path(folder))
    result.took_s = time.monotonic() - began
    return result

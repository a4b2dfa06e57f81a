"""Commands that are killed at random moments, again and again, end with the bits of those that never were."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from beam_pipelines.contract.manifest import Manifest
from tests.support.runs import RESUMED, TINY, assert_same
from tests.torture import pictures
from tests.torture.run import LOST, WRONG, Failure, Result
from tests.torture.sandbox import Ended, Sandbox, digests_below


@dataclass(frozen=True)
class Victim:
    """What is killed.

    Attributes:
      command: what writes to a folder.
      before: the folder that its output is a copy of when it starts; None for nothing.
      undisturbed: what the end is compared with, by `assert_same`.
      seconds: of an undisturbed command.
      lost: given the folder after a kill, and the digests of its files after the kill before: what is lost.
    """

    command: Callable[[Path], Sequence[str]]
    before: Path | None
    undisturbed: Path
    seconds: float
    assert_same: Callable[[Path, Path], None]
    lost: Callable[[Path, Mapping[str, str]], list[str]]


def torture_builds(seed: int, kills: int, folder: Path) -> Result:
    sandbox = Sandbox(folder)
    seconds = pictures.prepare(sandbox, *pictures.ONE_SIZE).seconds

    def command(output: Path) -> list[str]:
        return pictures.command(sandbox.source, output, *pictures.ONE_SIZE)

    undisturbed = folder / pictures.UNDISTURBED
    victim = Victim(command, None, undisturbed, seconds, pictures.assert_same_build, _lost_shards)
    return torture(victim, sandbox, seed, kills)


def torture_updates(seed: int, kills: int, folder: Path) -> Result:
    sandbox = Sandbox(folder)
    pictures.prepare(sandbox, *pictures.UNEVEN, uneven=True)
    before, updated = folder / pictures.UNDISTURBED, folder / "updated"
    pictures.change(sandbox.source)

    def command(output: Path) -> list[str]:
        return pictures.command(sandbox.source, output, *pictures.UNEVEN, "--update")

    seconds = _undisturbed(Sandbox(folder, (updated.name,)), command, before).seconds
    victim = Victim(command, before, updated, seconds, pictures.assert_same_build, _lost_of_listed)
    return torture(victim, sandbox, seed, kills)


def torture_training(seed: int, kills: int, folder: Path) -> Result:
    sandbox = Sandbox(folder)
    options = ("--labels=camvid11", "--image_size=96x128", "--no_transform_fn", "--shards=train=4,val=2")
    pictures.prepare(sandbox, *options, train=18, val=6)
    dataset, undisturbed = folder / pictures.UNDISTURBED, folder / "trained"

    def command(output: Path) -> list[str]:
        return ["-m", "tests.support.tiny", f"--dataset={dataset}", f"--output={output}", *TINY, *RESUMED]

    seconds = _undisturbed(Sandbox(folder, (undisturbed.name,)), command, None).seconds
    victim = Victim(command, None, undisturbed, seconds, assert_same, lambda *_: [])
    return torture(victim, sandbox, seed, kills)


def _undisturbed(sandbox: Sandbox, command: Callable[[Path], Sequence[str]], before: Path | None) -> Ended:
    sandbox.begin(before)
    ended = sandbox.run(command(sandbox.output))
    if ended.code:
        raise RuntimeError(f"the undisturbed command ended with {ended.code}: {ended.errors[-2000:]}")
    return ended


def torture(victim: Victim, sandbox: Sandbox, seed: int, kills: int) -> Result:
    """Starts the victim and kills it in the time that an undisturbed one takes, until `kills` of them were killed.

    One that ends before ends a series: all its kills are right if its end is the undisturbed one, and the next series
    starts from the beginning. The last series is ended without a kill.
    """
    sandbox.close()
    random, result, series = Random(seed), Result(), 0
    sandbox.begin(victim.before)
    seen: Mapping[str, str] = {}
    while result.tried < kills and not result.failures:
        running = sandbox.start(victim.command(sandbox.output))
        if running.wait(random.uniform(0.1, 1) * victim.seconds):
            sandbox.check(result, running.end())
            _end(victim, sandbox, result, series)
            series, seen = 0, {}
            continue
        ended = running.kill()
        result.tried, series = result.tried + 1, series + 1
        sandbox.check(result, ended)
        result.failures += [Failure(result.tried, LOST, name) for name in victim.lost(sandbox.output, seen)]
        seen = digests_below(sandbox.output)
    if series:
        _end(victim, sandbox, result, series)
    return result


def _end(victim: Victim, sandbox: Sandbox, result: Result, series: int) -> None:
    """Lets what was killed before go on to its end, compares it, and begins anew."""
    ended = sandbox.run(victim.command(sandbox.output))
    sandbox.check(result, ended)
    if ended.code != 0:
        result.failures.append(ended.failure(result.tried))
    else:
        try:
            victim.assert_same(sandbox.output, victim.undisturbed)
            result.equal += series
        except AssertionError as error:
            result.failures.append(Failure(result.tried, WRONG, " ".join(str(error).split())[:300]))
    sandbox.begin(victim.before)


def _lost_shards(output: Path, seen: Mapping[str, str]) -> list[str]:
    """Shards that were finished at the kill before and are not now."""
    now = digests_below(output)
    return [
        name for name in seen if name.count("/") == 0 and name.endswith(".tfrecord") and now.get(name) != seen[name]
    ]


def _lost_of_listed(output: Path, _: Mapping[str, str]) -> list[str]:
    """Shards of the data set, whichever of the two it is now, that are not whole."""
    splits = Manifest.from_json((output / "dataset.json").read_bytes()).splits
    shards = [shard for each in splits.values() for shard in each]
    return [shard.file for shard in shards if not _is_whole(output / shard.file, shard.sha256)]


def _is_whole(path: Path, digest: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == digest

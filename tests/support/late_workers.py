"""Builds whose launcher has gone, and workers of theirs that were cut off and come back when another build is there."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from beam_pipelines import builder, planner
from beam_pipelines.card.indexes import statistics_of_shard
from beam_pipelines.card.statistics import Statistics
from beam_pipelines.card.statistics_file import to_json
from beam_pipelines.contract.moments import Moments
from beam_pipelines.files import names, storage
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.options import parse_build
from beam_pipelines.recipe import Recipe
from beam_pipelines.shards.duplicate_search import Findings
from beam_pipelines.shards.finish import finish_shard
from beam_pipelines.shards.plan import ShardPlan, read_plan
from beam_pipelines.shards.previous import read_previous
from beam_pipelines.shards.publish import Limits, publish
from beam_pipelines.shards.receipts import StagedShard
from beam_pipelines.shards.stage import file_reader, stage_shard
from beam_pipelines.shards.written import WrittenShard

_PATIENCE = 60  # seconds, for a step of a worker
_LOOKS = 5  # of publishing: at its beginning, and for the rejected pairs, statistics, digest and manifest


class Worker(threading.Thread):
    """Does `work`, which gets this worker and may call `pause`. It is also paused when it has seen for the `looks`-th
    time that the folder is that of its build.
    """

    def __init__(self, work: Callable[[Worker], object], looks: int = 0) -> None:
        super().__init__(daemon=True)
        self._work, self._looks = work, looks
        self.is_at_its_beginning = looks == 1
        self._at_rest, self._released = threading.Event(), threading.Event()
        self.is_paused = False
        self.error: BaseException | None = None
        self.start()
        assert self._at_rest.wait(_PATIENCE)

    def run(self) -> None:
        try:
            self._work(self)
        except BaseException as error:
            self.error = error
        self._at_rest.set()

    def pause(self) -> None:
        """Until `go_on`, the first time that it is called."""
        self.is_paused = True
        self._at_rest.set()
        assert self._released.wait(_PATIENCE)

    def has_looked(self) -> None:
        self._looks -= 1
        if self._looks == 0:
            self.pause()

    def go_on(self) -> BaseException | None:
        """-> the error with which it ends."""
        self._released.set()
        self.join(_PATIENCE)
        assert not self.is_alive()
        return self.error


@contextlib.contextmanager
def cut_off() -> Iterator[None]:
    """Workers are paused between looking whether they may write, and writing: before a file is begun or renamed."""
    check = Workspace.check

    def late(place: Workspace) -> None:
        check(place)
        worker = threading.current_thread()
        if isinstance(worker, Worker):
            worker.has_looked()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Workspace, "check", late)
        yield


def paused_everywhere(work: Callable[[Worker], object]) -> list[Worker]:
    """Workers that do the same, paused after the first look, the second and so on; another one does it whole."""
    workers: list[Worker] = []
    for looks in itertools.count(1):
        worker = Worker(work, looks)
        if not worker.is_paused:
            assert worker.error is None, worker.error
            return workers
        workers.append(worker)
    raise AssertionError


@dataclass(frozen=True)
class Begun:
    """A build that was planned and that nobody waits for; its pipeline has not run."""

    recipe: Recipe
    place: Workspace
    plans: Sequence[ShardPlan]
    pipeline: beam.Pipeline

    def stage(self, plan: ShardPlan, on_pair: Callable[..., None] = lambda *_: None) -> StagedShard:
        with contextlib.closing(file_reader(self.recipe)) as reader:
            return stage_shard(plan, self.recipe, self.place, reader, on_pair)

    def finish(self, staged: StagedShard, moments: Moments) -> WrittenShard:
        if not self.recipe.normalized:
            return WrittenShard.of(staged, staged.shard, staged.crc32c)
        return finish_shard(staged, moments, self.recipe, self.place)

    def publish(self, staged: Sequence[StagedShard], written: Sequence[WrittenShard], moments: Moments) -> None:
        classes = self.recipe.labels.num_classes
        pixels = defaultdict[str, Any](int)
        statistics = defaultdict[str, Statistics](lambda: Statistics.zero(classes))
        for shard, each in zip(staged, written, strict=True):
            pixels[shard.split] = pixels[shard.split] + shard.class_pixels
            statistics[shard.split] += statistics_of_shard(each.shard.file, self.place, classes)
        counted = (dict(pixels), to_json(statistics), Findings())
        publish(written, moments, *counted, self.recipe, self.place, Limits(0, 1), time.time())

    def moments_of(self, staged: Sequence[StagedShard]) -> Moments:
        of_split = (shard.moments for shard in staged if shard.split == self.recipe.moments_split)
        return sum(of_split, Moments.zero())

    def workers(self) -> list[Worker]:
        """Stages and finishes all shards, and leaves a worker amid the pictures of a shard, and at each place where one
        has looked whether it may write.
        """
        first = next(plan for plan in self.plans if not plan.is_whole and not plan.source)
        workers = [Worker(lambda worker: self.stage(first, lambda *_: worker.pause()))]
        workers += paused_everywhere(lambda _: self.stage(first))
        staged = [self.stage(plan) for plan in self.plans]
        moments = self.moments_of(staged)
        workers += paused_everywhere(lambda _: self.finish(staged[0], moments))
        written = [self.finish(shard, moments) for shard in staged]
        publishing = [Worker(lambda _: self.publish(staged, written, moments), looks + 1) for looks in range(_LOOKS)]
        assert all(worker.is_paused for worker in publishing), [worker.error for worker in publishing]
        return [*workers, *publishing]


def begin(*arguments: object) -> Begun:
    """Begins the build that the command with these arguments makes."""
    settings = parse_build([*map(str, arguments), "--no_transform_fn"])
    pipelines = []

    def leave(pipeline: beam.Pipeline, *_: object) -> None:
        pipelines.append(pipeline)

    assert builder.build(settings, time.time(), Console(quiet=True), leave) == 0
    (token,) = storage.sizes(storage.join(settings.output, names.TOKENS))
    place = Workspace(settings.output, token)
    return Begun(settings.recipe, place, [*read_plan(place.plan)], *pipelines)


def command(source: Path, output: object, encoding: str, *more: str, size: str = "16x32") -> tuple[str, ...]:
    options = ("--labels=camvid11", f"--image_size={size}", "--shards=train=2,val=1", "--direct_num_workers=1")
    return (f"--input={source}", f"--output={output}", f"--image_encoding={encoding}", *options, *more)


def paint(source: Path, name: str, value: int) -> None:
    """Makes the picture, or another one, one color."""
    image = np.full((32, 64, 3), value, np.uint8)
    Image.fromarray(image).save(source / "images" / "train" / f"{name}.png")
    Image.fromarray(image[..., 0] % 12).save(source / "masks" / "train" / f"{name}.png")


def everything(dataset: Path) -> dict[str, str]:
    """The digest of every file, and the text of the manifest without `timing`."""
    files = {str(path.relative_to(dataset)): path for path in sorted(dataset.rglob("*")) if path.is_file()}
    digests = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    manifest = json.loads((dataset / "dataset.json").read_text())
    del manifest["timing"]
    return digests | {"dataset.json": json.dumps(manifest)}


@contextlib.contextmanager
def coming_back(moment: str, late: Callable[[], None]) -> Iterator[None]:
    """Calls `late` when a build in the block has planned, begun or staged its shards, or after the block."""
    execute, make_plan = builder.execute, planner.make_plan

    def planned(*given):
        plan = make_plan(*given)
        late()
        return plan

    def begun(*given):
        late()
        return execute(*given)

    def staged(place: Workspace):
        if not isinstance(threading.current_thread(), Worker):
            late()
        return read_previous(place)

    with pytest.MonkeyPatch.context() as patch:
        if moment == "planned":
            patch.setattr(builder, "make_plan", planned)
        if moment == "begun":
            patch.setattr(builder, "execute", begun)
        if moment == "staged":
            patch.setattr("beam_pipelines.shards.publish.read_previous", staged)
        yield
    if moment == "published":
        late()

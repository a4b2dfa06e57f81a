"""The progress of a running build, measured by the files that it has written, so that it works with every runner."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from beam_pipelines.errors import BuildError
from beam_pipelines.files import names, storage
from beam_pipelines.files.names import STAGED, TEMPORARIES
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.recipe import Recipe
from beam_pipelines.shards.estimate import Estimate
from beam_pipelines.shards.plan import ShardPlan

_LOCAL_SECONDS = 0.5
_REMOTE_SECONDS = 10.0  # a listing is a request that costs money
_LINE_SECONDS = 10.0  # between lines, if the output is not a terminal


@dataclass(frozen=True)
class State:
    """Images decoded, images in final shards, and bytes written in all."""

    decoded: int
    finished: int
    bytes: int


class Watched(Protocol):
    """Measures the progress of a build; `images` is the number of images that it decodes."""

    images: int

    def look(self) -> State:
        """Raises OSError or BuildError if the state can't be determined now."""


class Watcher:
    """Estimates the State of a build: by the receipts of whole shards, and by the sizes of those being written."""

    def __init__(self, workspace: Workspace, shards: Sequence[ShardPlan], recipe: Recipe, estimate: Estimate) -> None:
        self._workspace = workspace
        self._pairs = {shard.file: len(shard.pairs) for shard in shards}
        self._normalized = recipe.normalized
        self._final_bytes = estimate.example_bytes[recipe.image_encoding]
        self._staged_bytes = estimate.staged_bytes or self._final_bytes
        self.images = sum(self._pairs.values())

    def look(self) -> State:
        files = storage.sizes(self._workspace.root)
        staged = self._whole(files, names.staged_receipt)
        finished = self._whole(files, names.finished_receipt)
        final_size = sum(files.get(name, 0) for name in self._pairs)
        final_size += sum(size for name, size in files.items() if name.startswith(f"{TEMPORARIES}/"))
        staged_size = sum(size for name, size in files.items() if name.startswith(f"{STAGED}/"))
        being_staged = self._being_written(files, STAGED if self._normalized else "", self._staged_bytes)
        being_finished = self._being_written(files, "", self._final_bytes) if self._normalized else 0
        decoded = min(self.images, staged + being_staged)
        return State(decoded, min(self.images, finished + being_finished), staged_size + final_size)

    def receipts(self) -> int:
        """The number of receipts of staged and of finished shards: each stands for work that need not be done again."""
        return sum(map(names.is_receipt, storage.sizes(self._workspace.root)))

    def _whole(self, files: dict[str, int], receipt: Callable[[str], str]) -> int:
        return sum(pairs for file, pairs in self._pairs.items() if receipt(file) in files)

    def _being_written(self, files: dict[str, int], folder: str, example_bytes: float) -> int:
        """Images in files that still have temporary names."""
        sizes = (
            size
            for name, size in files.items()
            if name.rpartition("/")[0] == f"{TEMPORARIES}/{folder}".rstrip("/")
            and ".tfrecord." in name
            and ".json." not in name
        )
        return int(sum(sizes) / example_bytes)


@contextlib.contextmanager
def shown(watcher: Watched, normalized: bool, console: Console, remote: bool) -> Iterator[None]:
    """Shows progress while the block runs: bars in a terminal, otherwise a line every few seconds."""
    stop = threading.Event()
    show, seconds = _show_lines, _LINE_SECONDS
    if console.is_terminal:
        show, seconds = _show_bars, _REMOTE_SECONDS if remote else _LOCAL_SECONDS
    states = _states(watcher, stop, seconds)
    thread = threading.Thread(target=show, args=(states, watcher.images, normalized, console), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _show_bars(states: Iterator[tuple[State, str, str]], images: int, normalized: bool, console: Console) -> None:
    columns = (
        TextColumn("{task.description:9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        decode = progress.add_task("decode", total=images, rate="")
        finish = progress.add_task("normalize", total=images, rate="", visible=normalized)
        for state, rate, _ in states:
            busy = decode if state.decoded < images else finish
            progress.update(decode, completed=state.decoded, rate=rate if busy == decode else "")
            progress.update(finish, completed=state.finished, rate=rate if busy == finish else "")


def _show_lines(states: Iterator[tuple[State, str, str]], images: int, normalized: bool, console: Console) -> None:
    for state, rate, left in states:
        finished = f", normalized {state.finished:,}" if normalized else ""
        console.print(f"decoded {state.decoded:,} of {images:,} images{finished}; {rate}; {left}", highlight=False)


def _states(watcher: Watched, stop: threading.Event, seconds: float) -> Iterator[tuple[State, str, str]]:
    """Yields (state, rate, time left) every so many seconds until `stop`."""
    start, first = time.monotonic(), None
    while not stop.wait(seconds):
        try:
            state = watcher.look()
        except (OSError, BuildError):
            continue  # a file disappeared meanwhile; the next look will do
        first = first or state
        elapsed = max(time.monotonic() - start, 1e-9)
        images = state.decoded - first.decoded
        left = f"about {elapsed / images * (watcher.images - state.decoded):.0f} s to decode" if images else "starting"
        yield state, f"{images / elapsed:.1f} img/s, {max(0, state.bytes - first.bytes) / elapsed / 1e6:.0f} MB/s", left

"""Publishes the data set: lists the rejected pairs, checks that every shard exists, and writes the manifest last."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TypeVar

import numpy as np

from beam_pipelines.contract.labels import IGNORE
from beam_pipelines.contract.manifest import Manifest, PixelFormat, Update
from beam_pipelines.contract.moments import Moments
from beam_pipelines.contract.schema import SchemaError
from beam_pipelines.contract.seal import sealed, unsealed
from beam_pipelines.errors import BuildError
from beam_pipelines.files import lease, storage
from beam_pipelines.files.workspace import Workspace, publish_manifest
from beam_pipelines.recipe import Recipe
from beam_pipelines.rejects import Rejected
from beam_pipelines.shards.duplicate_search import Findings
from beam_pipelines.shards.leaks import check_leaks, write_duplicates
from beam_pipelines.shards.previous import Previous, read_previous
from beam_pipelines.shards.receipts import StagedShard
from beam_pipelines.shards.written import WrittenShard
from beam_pipelines.wording import rounded_up

_KEPT = "Shards without a bad pair are kept, unless the command has --overwrite"
_T = TypeVar("_T")


@dataclass(frozen=True)
class Limits:
    """The shares that a build may have of rejected pairs, and of examples with a duplicate in another split."""

    rejects: float
    leaks: float


def publish(
    written: Sequence[WrittenShard],
    moments: Moments,
    class_pixels: Mapping[str, np.ndarray],
    statistics: str,
    findings: Findings,
    recipe: Recipe,
    workspace: Workspace,
    limits: Limits,
    started: float,
) -> Manifest:
    """Writes `rejected.jsonl`, `duplicates.jsonl` (an update into `_build`) and, if all is well, the card's statistics
    and `dataset.json`. It may be called again, with the same result.

    Args:
      class_pixels: split -> int64[256], the pixels of each train id.
      statistics: the text of the card's `statistics.json`.

    Raises:
      BuildError: more pairs were rejected, or more examples leak, than `limits` allow, a shard is missing or was
        changed, the lease was lost (only the process that holds the lease notices that, a remote worker does not), or
        another build has taken the folder (ReplacedBuildError).
    """
    lease.check(workspace.lease)
    workspace.check()
    written = sorted(written, key=lambda shard: shard.shard.file)
    previous = read_previous(workspace)
    of_rejected, of_duplicates = workspace.refused if previous else (workspace.rejected, workspace.duplicates)
    rejected = write_rejected(written, workspace, of_rejected)
    examples = sum(shard.shard.examples for shard in written)
    check_rejects(rejected, examples, limits.rejects, f"{of_rejected} lists each with its reason. {_KEPT}")
    if not moments.pixels:
        raise BuildError(
            f"every pair of the split {recipe.moments_split!r} was rejected: {of_rejected} has the reasons"
        )
    write_duplicates(findings, workspace, of_duplicates)
    check_leaks(findings, examples, limits.leaks, recipe, workspace, of_duplicates)
    _check_files(written, previous, workspace)
    manifest = _manifest(written, moments, class_pixels, findings, recipe, rejected, started)
    if previous:  # the lists in their place belong to the data set before, until the manifest is written
        manifest = updated(manifest, previous)
    workspace.write(workspace.card_statistics, statistics.encode())
    publish_manifest(workspace, manifest)
    return manifest


def _manifest(
    written: Sequence[WrittenShard],
    moments: Moments,
    class_pixels: Mapping[str, np.ndarray],
    findings: Findings,
    recipe: Recipe,
    rejected: Counter[str],
    started: float,
) -> Manifest:
    classes = recipe.labels.num_classes
    return Manifest(
        fingerprint=recipe.fingerprint,
        recipe=recipe.to_json(),
        pixels=_pixel_format(written, recipe),
        labels=recipe.labels,
        moments_split=recipe.moments_from.split if recipe.moments_from else recipe.moments_split,
        moments=moments,
        class_pixels={split: tuple(class_pixels[split][:classes].tolist()) for split in sorted(class_pixels)},
        ignored_pixels={split: int(class_pixels[split][IGNORE]) for split in sorted(class_pixels)},
        splits={
            split: tuple(shard.shard for shard in written if shard.split == split) for split in sorted(class_pixels)
        },
        rejected=dict(sorted(rejected.items())),
        timing={
            "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "seconds": round(time.time() - started, 1),
        },
        minus_one_pixels=sum(shard.minus_ones for shard in written),
        repairs=_sum(shard.repairs for shard in written),
        indexed=True,
        duplicates=findings.counts,
        leaks=findings.leaks,
        moments_from=recipe.moments_from.dataset if recipe.moments_from else None,
    )


def updated(manifest: Manifest, previous: Previous) -> Manifest:
    """The manifest of an update: without shards that hold nothing, and with what the update has changed."""
    splits = {name: tuple(shard for shard in of_split if shard.examples) for name, of_split in manifest.splits.items()}
    now = {shard.file for of_split in splits.values() for shard in of_split}
    written, gone = sorted(now - previous.shards.keys()), sorted(previous.shards.keys() - now)
    updates = previous.manifest.updates
    if written or gone:
        updates = (*updates, Update(**previous.changes, shards=tuple(written)))
    return replace(manifest, splits=splits, updates=updates, superseded=tuple(gone))


def _sum(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(sorted(total.items()))


def write_pairing(workspace: Workspace, rejected: Sequence[Rejected]) -> None:
    """Writes the pairing problems for `publish`, a JSON line for each, and the checksum line."""
    workspace.write(workspace.pairing, sealed("".join(problem.to_json() + "\n" for problem in rejected)))


def write_rejected(written: Sequence[WrittenShard], workspace: Workspace, path: str) -> Counter[str]:
    """Writes the list `path`: the pairing problems, then the rejected pairs of each shard. -> counts by reason."""
    reasons: Counter[str] = Counter()
    with workspace.writing(path) as file:
        for problem in _all_rejected(written, workspace):
            reasons[problem.reason] += 1
            file.write(problem.to_json().encode() + b"\n")
    return reasons


def _all_rejected(written: Sequence[WrittenShard], workspace: Workspace) -> Iterator[Rejected]:
    yield from _read_needed(workspace.pairing, _pairing_problems)
    for shard in written:
        if shard.rejected:
            yield from _read_needed(workspace.staged_receipt(shard.shard.file), StagedShard.from_json).rejected


def _pairing_problems(text: str, name: str) -> list[Rejected]:
    return [Rejected.from_json(line, name) for line in text.split("\n")[:-1]]


def _read_needed(path: str, read: Callable[[str, str], _T]) -> _T:
    text = unsealed(storage.read_bytes(path))
    with contextlib.suppress(SchemaError):
        if text is not None:
            return read(text, path)
    raise BuildError(f"{path} is missing or damaged: another program changed the folder; run the same command again")


def check_rejects(rejected: Counter[str], examples: int, max_rejects: float, listed: str) -> None:
    """Raises BuildError if more than the share `max_rejects` of all pairs is rejected. The message tells how to accept
    them; the sentence `listed` tells where they are listed.
    """
    count = sum(rejected.values())
    share = count / max(1, count + examples)
    if share > max_rejects:
        reasons = ", ".join(f"{reason} {times}" for reason, times in rejected.most_common())
        raise BuildError(
            f"{count} of {count + examples} pairs were rejected ({share:.2%}; --max_rejects is {max_rejects:.2%}): "
            f"{reasons}. {listed}. Fix the files, or accept the loss with --max_rejects={rounded_up(share)}, "
            "and run the command again"
        )


def _check_files(written: Sequence[WrittenShard], previous: Previous | None, workspace: Workspace) -> None:
    """Raises BuildError if a shard or an index is missing, or is not as it was written."""
    there, kept = storage.states(workspace.root), previous.shards if previous else {}
    for shard in written:
        is_kept = shard.shard.file in kept
        cure = "restore it, or build again with --overwrite" if is_kept else "run the same command again"
        for file, (size, crc) in shard.files.items():
            difference = _difference(workspace.final(file), size, crc, *there.get(file, (None, None)))
            if difference:
                raise BuildError(
                    f"{workspace.final(file)} {difference}, and {size:,} bytes were written: another program changed "
                    f"the folder; {cure}"
                )


def _difference(path: str, size: int, crc: int | None, found: int | None, found_crc: int | None) -> str | None:
    """How a file differs from what was written. The storage of a bucket knows the CRC-32C of its objects; local shards
    are told by their sizes only, since reading all of them would take long.
    """
    if found != size:
        return "is missing" if found is None else f"has {found:,} bytes"
    if found_crc is None and not path.endswith(".tfrecord"):
        found_crc = storage.crc32c_of(path)
    return None if crc is None or found_crc in (None, crc) else "has other bytes"


def _pixel_format(written: Sequence[WrittenShard], recipe: Recipe) -> PixelFormat:
    """Height and width, each None if the records differ in it."""
    used = [shard for shard in written if shard.shard.examples]
    heights = {height for shard in used for height in shard.heights}
    widths = {width for shard in used for width in shard.widths}
    return PixelFormat(
        height=heights.pop() if len(heights) == 1 else None,
        width=widths.pop() if len(widths) == 1 else None,
        image_format=recipe.image_format,
        mask_format=recipe.mask_format,
    )

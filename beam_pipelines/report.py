"""What the commands print: the plan before a build, and the tables after a build or a verification."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from beam_pipelines.contract.labels import LabelTable
from beam_pipelines.contract.manifest import Manifest
from beam_pipelines.files.names import DUPLICATES
from beam_pipelines.inputs.sources import Found, Pair
from beam_pipelines.pixels import table_fit
from beam_pipelines.recipe import Recipe
from beam_pipelines.rejects import Rejected, meaning_of
from beam_pipelines.shards import leaks
from beam_pipelines.shards.check import Checked
from beam_pipelines.shards.estimate import Estimate
from beam_pipelines.shards.plan import ShardPlan
from beam_pipelines.shards.update import Difference
from beam_pipelines.wording import counted

SHOWN_PROBLEMS = 20
BATCHES = (4, 8, 16, 32)  # for which --plan gives the steps of an epoch


@dataclass(frozen=True)
class Took:
    """Seconds of the whole command and of its pipeline, and the images that this run decoded; an earlier run, which was
    stopped, may have decoded the others. `decoder` is that of PNG files, where it is known: workers elsewhere have
    their own.
    """

    total: float
    pipeline: float
    images: int
    decoder: str = ""


def print_found(found: Found, inputs: str, console: Console, form: str = "") -> None:
    """Prints what the input holds, how it is read, if `form` says so, every note, and the first pairing problems."""
    console.print(f"found {counted(len(found.pairs), 'pair')} in {inputs}", highlight=False, markup=False)
    if form:
        console.print(f"  {form}", highlight=False, markup=False)
    for note in found.notes:
        console.print(f"  {note}", highlight=False, markup=False)
    print_problems(found.rejected, console)


def print_notes(notes: Sequence[str], console: Console) -> None:
    """Prints the notes about the masks."""
    for note in notes:
        console.print(f"  {note}", highlight=False, markup=False)


def print_problems(rejected: Sequence[Rejected], console: Console) -> None:
    """Prints the first pairing problems, and the number of the others."""
    for problem in rejected[:SHOWN_PROBLEMS]:
        console.print(f"  {problem.reason}: {problem.detail}", highlight=False, markup=False)
    if len(rejected) > SHOWN_PROBLEMS:
        console.print(
            f"  ... and {len(rejected) - SHOWN_PROBLEMS:,} more; rejected.jsonl has them all", highlight=False
        )


def print_plan(
    chosen: Mapping[str, Sequence[Pair]],
    shards: Sequence[ShardPlan],
    estimate: Estimate,
    recipe: Recipe,
    console: Console,
) -> None:
    """Prints pairs and shards of each split, and the predicted size of the data set in each encoding."""
    count = Counter(shard.split for shard in shards)
    splits = _table("plan", "split", "pairs", "shards", "MB per shard")
    size = estimate.example_bytes[recipe.image_encoding]
    for split, pairs in chosen.items():
        splits.add_row(split, f"{len(pairs):,}", f"{count[split]:,}", f"{len(pairs) * size / count[split] / 1e6:.1f}")
    console.print(splits)
    total = sum(len(pairs) for pairs in chosen.values())
    shape = "native" if recipe.image_size is None else "x".join(map(str, recipe.image_size))
    encodings = _table(f"predicted size at {shape}", "--image_encoding", "per example", "data set", "")
    for encoding, example_bytes in estimate.example_bytes.items():
        mark = "<- this build" if encoding == recipe.image_encoding else ""
        encodings.add_row(encoding, readable(example_bytes), readable(example_bytes * total), mark)
    console.print(encodings)


def print_update(difference: Difference, shards: Sequence[ShardPlan], console: Console) -> None:
    """Prints what has changed since the data set was built, and which shards an update touches."""
    changes = difference.changes
    for line in changes.lines():
        console.print(f"  {line}", highlight=False, markup=False)
    if changes.again:
        console.print(f"  {counted(len(changes.again), 'rejected pair')} to try again", highlight=False)
    new = sum(shard.source is None for shard in shards)
    kept = sum(shard.is_kept for shard in shards)
    again = sum(shard.is_whole and not shard.is_kept for shard in shards)
    parts = [f"{counted(kept, 'shard')} kept", f"{len(shards) - new - kept - again:,} copied in part"]
    parts += [f"{again:,} normalized again if mean and std change"] if again else []
    console.print(f"update: {', '.join(parts)}, {counted(new, 'new shard')}", highlight=False)


def print_forecast(chosen: Mapping[str, Sequence[Pair]], estimate: Estimate, cores: int, console: Console) -> None:
    """Prints the steps of an epoch of `train` in usual batches, and about how long the pipeline will take here."""
    if train := chosen.get("train"):
        steps = [f"{batch} makes {math.ceil(len(train) / batch):,}" for batch in BATCHES]  # the last one is filled up
        console.print(f"steps in an epoch of train: a batch of {', '.join(steps)}", highlight=False)
    pairs = sum(len(pairs) for pairs in chosen.values())
    console.print(
        f"the pipeline takes about {duration(estimate.build_seconds(pairs, cores))} on this machine: "
        f"{1000 * estimate.pair_seconds:.0f} ms for a pair, {cores} core{'s' if cores > 1 else ''}",
        highlight=False,
    )


def print_result(manifest: Manifest, root: str, took: Took, console: Console, grouping: str | None = None) -> None:
    """Prints the closing table of a build. `grouping` is a --group_by that would keep its duplicates in one split."""
    table = _table(f"data set {root}", "split", "examples", "shards", "bytes")
    for split, shards in manifest.splits.items():
        table.add_row(split, f"{manifest.examples(split):,}", f"{len(shards):,}", readable(manifest.bytes(split)))
    console.print(table)
    moments = manifest.moments
    of = manifest.moments_split + (f" of {manifest.moments_from}" if manifest.moments_from else "")
    console.print(f"RGB mean of {of}  {_numbers(moments.mean)}", highlight=False)
    console.print(f"RGB std  of {of}  {_numbers(moments.std)}", highlight=False)
    for note in _notes_on_classes(manifest):
        console.print(note, highlight=False)
    for note in _notes_on_duplicates(manifest, grouping):
        console.print(note, highlight=False, markup=False)
    rejected = sum(manifest.rejected.values())
    console.print(f"rejected pairs     {rejected:,}" + (", in rejected.jsonl:" if rejected else ""), highlight=False)
    for reason, count in manifest.rejected.items():
        console.print(f"  {reason} {count:,}: {meaning_of(reason)}", highlight=False)
    print_took(took, console)


def print_took(took: Took, console: Console) -> None:
    """Prints how long the build took, and with what."""
    decoder = f", PNG by {took.decoder}" if took.decoder else ""
    console.print(
        f"took {took.total:.1f} s, of which the pipeline {took.pipeline:.1f} s"
        f" ({counted(took.images, 'image')}, {took.images / took.pipeline:.1f} img/s{decoder})",
        highlight=False,
    )


def print_decoder(name: str, console: Console) -> None:
    """Prints what decodes RGB in PNG files: names of `png.decoder`."""
    cure = "" if name == "imgread" else "; imgread, which takes less time, is not installed here"
    console.print(f"PNG files of RGB are decoded by {name}{cure}", highlight=False)


def print_checked(checked: Checked, manifest: Manifest, root: str, problems: Sequence[str], console: Console) -> None:
    """Prints what was read back of each split, and every problem."""
    table = _table(f"data set {root}", "split", "examples", "shards", "bytes", "mean as stored", "std as stored")
    for split, shards in manifest.splits.items():
        tally = checked.tallies.get(split)
        stored = tally.stored_moments() if tally and tally.examples else ((), ())
        mean, std = (" ".join(f"{round(value, 5) + 0.0:.5f}" for value in values) for values in stored)
        table.add_row(
            split,
            f"{tally.examples if tally else 0:,} of {manifest.examples(split):,}",
            f"{len(shards):,}",
            readable(manifest.bytes(split)),
            mean,
            std,
        )
    console.print(table)
    for problem in problems:
        console.print(f"problem: {problem}", highlight=False, markup=False)
    console.print(
        counted(len(problems), "problem") if problems else "all records read, every check passed", highlight=False
    )


def readable(size: float) -> str:
    """Bytes as a number of at most four digits with its decimal unit."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.2f} {unit}"


def duration(seconds: float) -> str:
    """As roughly as an estimate is: whole seconds below two minutes, then minutes, then hours with a decimal."""
    if seconds < 120:
        return f"{max(1, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _notes_on_classes(manifest: Manifest) -> list[str]:
    """Notes on ignored pixels, on classes without a pixel, and on what looks like the wrong label table."""
    split = manifest.main_split
    pixels, ignored = manifest.class_pixels[split], manifest.ignored_pixels[split]
    share = ignored / max(1, sum(pixels) + ignored)
    absent = [row.name for row, count in zip(manifest.labels.classes, pixels, strict=True) if not count]
    notes = [f"ignored pixels     {share:.1%} of {split}"]
    if absent:
        notes.append(f"no pixel in {split}: {', '.join(absent)}")
    if share > table_fit.SUSPICIOUS_IGNORED:
        notes.append(f"that is unusually many: is {manifest.labels.name} the right label table (--labels)?")
    notes += _notes_on_table(manifest.labels, pixels)
    notes += [
        f"repaired           {counted(pixels, 'pixel')} of masks by `{name}: {manifest.labels.repairs.get(name)}`"
        for name, pixels in manifest.repairs.items()
    ]
    if minus_ones := manifest.minus_one_pixels:
        count = counted(minus_ones, "pixel of masks is", "pixels of masks are")
        notes.append(
            f"warning: {count} 65535, which is -1 in 16 bits: "
            "`ignore: rest` ignored them; if they belong to a class, add 65535 to its ids"
        )
    return notes


def _notes_on_duplicates(manifest: Manifest, grouping: str | None) -> Iterator[str]:
    """How many there are, where, and what those across splits mean."""
    if manifest.duplicates:
        found = "; ".join([*leaks.places(manifest.duplicates), *leaks.places(manifest.duplicates, across=True)])
        yield f"duplicates         {found}: {DUPLICATES}"
    if manifest.leaks:
        count = counted(manifest.leaks, "example has", "examples have")
        cure = f" {leaks.keeping_together(grouping)} would keep them in one split." if grouping else ""
        yield f"warning: {count} a duplicate in another split, so that scores on it are too good.{cure}"


def _notes_on_table(table: LabelTable, pixels: Sequence[int]) -> list[str]:
    """A warning if a built-in table gives most pixels to classes that are small in street scenes. It names the built-in
    tables for which the ids are those of street scenes.
    """
    counts = dict(zip((row.name for row in table.classes), pixels, strict=True))
    judged = table_fit.is_builtin(table) and table.name not in table_fit.NO_STREETS
    if not judged or table_fit.rare_share(counts) <= table_fit.SUSPICIOUS_RARE:
        return []
    largest = max((name for name in counts if name not in table_fit.LARGE), key=lambda name: counts[name])
    share = f"warning: {largest} fills {counts[largest] / max(1, sum(pixels)):.0%} of the pixels that are not ignored"
    absent = [name for name in counts if name in table_fit.GROUND and not counts[name]]
    share += f", and there is no {absent[0]}" if absent else ""
    others = table_fit.fitting_tables(_pixels_of_ids(table, pixels), table.name)
    fit = f" The ids fit {' or '.join(others)}." if others else ""
    return [f"{share}. Is {table.name} the right label table (--labels)?{fit}"]


def _pixels_of_ids(table: LabelTable, pixels: Sequence[int]) -> dict[int, int]:
    """Id -> pixels; empty if a class with pixels has several ids, since nothing tells which of them it has."""
    found = [(row.source_ids, count) for row, count in zip(table.classes, pixels, strict=True) if count]
    return {} if any(len(ids) > 1 for ids, _ in found) else {ids[0]: count for ids, count in found}


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    return table


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.8f}" for value in values)

"""The list of duplicates, and what to do about those that cross splits."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping

import msgspec

from beam_pipelines.contract import schema
from beam_pipelines.contract.manifest import Manifest
from beam_pipelines.contract.schema import PlainName, SchemaError
from beam_pipelines.errors import BuildError
from beam_pipelines.files import storage
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.inputs.grouping import proposed_grouping
from beam_pipelines.recipe import Recipe
from beam_pipelines.shards import plan
from beam_pipelines.shards.duplicate_search import LISTED, Duplicate, Findings, Kind
from beam_pipelines.wording import rounded_up

_KEPT = "The shards are kept, unless the command has --overwrite"


class DuplicateLine(msgspec.Struct, forbid_unknown_fields=True):
    """A line of `duplicates.jsonl`: two examples, in the order of their keys."""

    kind: Kind
    distance: int
    keys: tuple[str, str]
    splits: tuple[PlainName, PlainName]
    filenames: tuple[str, str]
    shards: tuple[PlainName, PlainName]

    @classmethod
    def of(cls, pair: Duplicate) -> DuplicateLine:
        one, other = pair.one, pair.other
        return cls(
            kind=pair.kind,
            distance=pair.distance,
            keys=(one.key, other.key),
            splits=(one.split, other.split),
            filenames=(one.filename, other.filename),
            shards=(one.shard, other.shard),
        )


def write_duplicates(findings: Findings, workspace: Workspace, path: str) -> None:
    """Writes the list `path`, a line for each pair that is listed; no file if there is none."""
    if not findings.listed:
        workspace.delete(path)  # of a run of the same pipeline that failed
    else:
        lines = (msgspec.json.encode(DuplicateLine.of(pair)) + b"\n" for pair in findings.listed)
        workspace.write(path, b"".join(lines))


def read_duplicates(data: bytes, name: str) -> list[DuplicateLine]:
    """Raises SchemaError, which calls the file `name`."""
    return [schema.decode(DuplicateLine, line, name) for line in data.splitlines()]


def is_list(data: bytes | None) -> bool:
    """Whether `data` is a list as `write_duplicates` writes it."""
    try:
        return bool(data and read_duplicates(data, ""))
    except SchemaError:
        return False


def check_leaks(
    findings: Findings, examples: int, max_leaks: float, recipe: Recipe, workspace: Workspace, path: str
) -> None:
    """Raises BuildError if more than the share `max_leaks` of the examples has a duplicate in another split. The
    message names their list `path`, how to accept them, and a --group_by that keeps them together, if there is one.
    """
    share = findings.leaks / max(1, examples)
    if share > max_leaks:
        grouping = grouping_of_leaks(recipe, workspace, path)
        cure = f"keep them in one split with {keeping_together(grouping)}" if grouping else "Remove one of each pair"
        raise BuildError(
            f"{findings.leaks} of {examples} examples have a duplicate in another split ({share:.2%}; --max_leaks is "
            f"{max_leaks:.2%}): {', '.join(places(findings.counts, across=True))}. {path} lists each "
            f"pair. {_KEPT}. {cure[0].upper()}{cure[1:]}, or accept them with --max_leaks={rounded_up(share)}, and run "
            "the command again"
        )


def check_published_leaks(manifest: Manifest, max_leaks: float) -> None:
    """Raises BuildError if more than the share `max_leaks` of a finished data set has a duplicate in another split."""
    examples = sum(map(manifest.examples, manifest.splits))
    if manifest.leaks > max_leaks * examples:
        raise BuildError(
            f"the data set is complete, and {manifest.leaks} of its {examples} examples have a duplicate in another "
            f"split (--max_leaks is {max_leaks:.2%}): remove one of each pair in duplicates.jsonl, and give --update"
        )


def places(counts: Mapping[str, Mapping[str, int]], across: bool = False) -> Iterator[str]:
    """Yields `3 exact, 12 near within train` for each split, or `2 near across train and val` for each two of them."""
    for place, kinds in sorted(counts.items()):
        splits = place.split("/")
        if across == (len(splits) > 1):
            where = f"across {' and '.join(splits)}" if across else f"within {place}"
            yield f"{', '.join(f'{count:,} {kind}' for kind, count in kinds.items())} {where}"


def keeping_together(grouping: str) -> str:
    """The options with which the pictures that belong together stay together."""
    return f"--group_by={shlex.quote(grouping)} --overwrite"


def grouping_of_leaks(recipe: Recipe, workspace: Workspace, path: str) -> str | None:
    """A --group_by that puts both pictures of each leaking pair into one split, if this build made the splits. It is
    computed from the list of duplicates `path` and from the plan, and so before the plan is deleted.
    """
    data = storage.read_bytes(path)
    if not recipe.split_fractions or not data:
        return None
    lines = read_duplicates(data, path)
    leaks = [line.keys for line in lines if len({*line.splits}) > 1]
    return None if len(leaks) >= LISTED else proposed_grouping(leaks, _keys(workspace))  # not all leaks are known


def _keys(workspace: Workspace) -> Iterator[str]:
    for shard in plan.read_plan(workspace.plan):
        yield from (pair.key for pair in shard.pairs)

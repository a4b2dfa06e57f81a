"""What the page says about rejected pairs: how many for which reason, and pictures where files can still be read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from beam_pipelines.contract.manifest import Manifest
from beam_pipelines.contract.pages.pictures import THUMBNAIL, photo
from beam_pipelines.contract.picture_rules import Rules
from beam_pipelines.contract.pictures import BYTES_PER_PIXEL
from beam_pipelines.contract.pixel import MAX_IMAGE_PIXELS
from beam_pipelines.contract.schema import SchemaError
from beam_pipelines.errors import BuildError
from beam_pipelines.files import storage
from beam_pipelines.files.reader import FileReader
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.pixels.decode import decode_image
from beam_pipelines.rejects import BadInputError, Rejected, meaning_of, reason_of

SHOWN = 4  # pictures of a reason
_LENIENT = Rules(orient="apply", alpha="white", deep="scale")  # takes what only the rules of the build refused


@dataclass(frozen=True)
class Thumbnail:
    """A rejected pair, with the address of its image; None if that can't be read."""

    name: str
    detail: str
    image: str | None


@dataclass(frozen=True)
class RejectedReason:
    """The pairs that were rejected for a reason, of which the first are `shown`."""

    reason: str
    meaning: str
    pairs: int
    shown: Sequence[Thumbnail]

    @property
    def unreadable(self) -> int:
        return sum(1 for each in self.shown if each.image is None)


def rejected_reasons(manifest: Manifest, workspace: Workspace) -> list[RejectedReason]:
    """By reason, the most frequent first, as the manifest counts them; `rejected.jsonl` says which pairs they are.

    Raises:
      BuildError: `rejected.jsonl` is damaged.
    """
    found = _first(_read(workspace)) if manifest.rejected else {}
    reader = _Reader(manifest.recipe.get("max_image_pixels", MAX_IMAGE_PIXELS))
    try:
        return [
            RejectedReason(
                reason, meaning_of(reason), pairs, [*map(reader.thumbnail, found.get(reason_of(reason), ()))]
            )
            for reason, pairs in sorted(manifest.rejected.items(), key=lambda item: (-item[1], item[0]))
        ]
    finally:
        reader.close()


def _first(lines: Iterable[Rejected]) -> dict[str, list[Rejected]]:
    """Reason -> the first pairs that were rejected for it."""
    found: dict[str, list[Rejected]] = {}
    for rejected in lines:
        kept = found.setdefault(rejected.reason, [])
        if len(kept) < SHOWN:
            kept.append(rejected)
    return found


def _read(workspace: Workspace) -> Iterable[Rejected]:
    for number, line in enumerate((storage.read_bytes(workspace.rejected) or b"").splitlines(), 1):
        try:
            yield Rejected.from_json(line)
        except SchemaError as error:
            raise BuildError(f"{workspace.rejected}, line {number}: {error.problem}; restore the file") from error


class _Reader:
    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._files = FileReader(BYTES_PER_PIXEL * max_pixels)

    def thumbnail(self, rejected: Rejected) -> Thumbnail:
        name = rejected.key
        if rejected.image is None:
            return Thumbnail(name, rejected.detail, None)
        try:
            image = decode_image(self._files.read(rejected.image), self._max_pixels, _LENIENT)
        except (BadInputError, BuildError):  # the file is damaged, gone, or in a place that can't be read any more
            return Thumbnail(name, rejected.detail, None)
        return Thumbnail(name, rejected.detail, photo(image, THUMBNAIL))

    def close(self) -> None:
        self._files.close()

"""Counts what the masks of an input hold, with Beam: only paths and counts pass between its steps."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Sequence

import apache_beam as beam

from beam_pipelines.contract.picture_errors import PictureError
from beam_pipelines.contract.picture_rules import STRICT, Rules
from beam_pipelines.contract.pictures import BYTES_PER_PIXEL, open_header, orientation_of
from beam_pipelines.files.reader import FileReader
from beam_pipelines.inputs.sources import Pair
from beam_pipelines.label_drafts.contents import Contents, total_of
from beam_pipelines.label_drafts.examine import Check, examine, unreadable, unreadable_kind
from beam_pipelines.rejects import BadInputError

CHUNK = 32  # masks of an element
SIDEWAYS = range(5, 9)  # EXIF orientations that exchange height and width
HEAD = 65_536  # bytes; most types of images have their size among the first


class CountMasks(beam.PTransform):
    """-> the Contents of the masks of `pairs`, a single element; an index in it is a place in `pairs`."""

    def __init__(
        self, pairs: Sequence[Pair], max_pixels: int, check: Check | None = None, rules: Rules = STRICT
    ) -> None:
        super().__init__()
        self._chunks = [*chunks_of(pairs)]
        self._fn = CountMasksFn(max_pixels, check, rules)

    def expand(self, root: beam.Pipeline) -> beam.PCollection[Contents]:
        chunks = root | "Masks" >> beam.Create(self._chunks) | "Spread" >> beam.Reshuffle()
        return chunks | "Count" >> beam.ParDo(self._fn) | "Merge" >> beam.CombineGlobally(CombineContentsFn())


def chunks_of(pairs: Sequence[Pair]) -> Iterator[tuple[int, bytes]]:
    """(index of the first pair, paths of masks and images): compressed, since a job's request holds them all, and
    Dataflow limits that.
    """
    for start in range(0, len(pairs), CHUNK):
        paths = [(pair.mask, pair.image) for pair in pairs[start : start + CHUNK]]
        yield start, zlib.compress(json.dumps(paths).encode())


class CountMasksFn(beam.DoFn):
    """Reads and counts the masks of a chunk."""

    def __init__(self, max_pixels: int, check: Check | None, rules: Rules) -> None:
        self._max_pixels, self._check, self._rules = max_pixels, check, rules

    def setup(self) -> None:
        self._reader = FileReader(BYTES_PER_PIXEL * self._max_pixels)

    def process(self, chunk: tuple[int, bytes]) -> Iterator[Contents]:
        start, paths = chunk
        pairs = enumerate(json.loads(zlib.decompress(paths)), start)
        yield total_of(self._count(mask, image, index) for index, (mask, image) in pairs)

    def teardown(self) -> None:
        self._reader.close()

    def _count(self, mask: str, image: str, index: int) -> Contents:
        try:
            data = self._reader.read(mask)
        except BadInputError as error:
            return unreadable(unreadable_kind(error.reason), error.reason, index)
        size = None if self._check is None else self._size_of(image)
        return examine(data, index, self._max_pixels, self._check, size, self._rules)

    def _size_of(self, image: str) -> tuple[int, int] | None:
        """(height, width), from as little of the file as tells it; None if it can't be read, as a build will say."""
        for head in (HEAD, None):
            try:
                data = self._reader.read(image, head)
                header = open_header(data, self._max_pixels)
                turned = orientation_of(header, data) in SIDEWAYS
                return (header.width, header.height) if turned else (header.height, header.width)
            except (BadInputError, PictureError):
                continue
        return None


class CombineContentsFn(beam.CombineFn):
    """Adds contents, which are integers: the sum does not depend on bundles and their order."""

    def create_accumulator(self) -> Contents:
        return Contents()

    def add_input(self, total: Contents, contents: Contents) -> Contents:
        return total + contents

    def merge_accumulators(self, totals: Iterable[Contents]) -> Contents:
        return total_of(totals)

    def extract_output(self, total: Contents) -> Contents:
        return total

"""Which files of an input claim which split and key, as images or as masks."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from beam_pipelines.errors import BuildError
from beam_pipelines.inputs.input_files import Files
from beam_pipelines.inputs.layout import AnyTemplate, Masks
from beam_pipelines.inputs.templates import Name, split_of_folder

_IMAGE = "i"
_SEPARATOR = "\0"


@dataclass(frozen=True)
class Claim:
    """The files of one key; `split` is "" if the folders have no splits. Images and masks are places in the listing."""

    split: str
    key: str
    images: tuple[int, ...]
    masks: tuple[int, ...]


class Claims:
    """All claims of an input, packed: a file takes about 90 bytes.

    Each split takes the first kind of `masks` that it has. Where folders tell no split, `split_of_key` does; None
    leaves the file out.

    Raises:
      BuildError: a name is in the folders of two splits.
    """

    def __init__(
        self,
        files: Files,
        images: Sequence[AnyTemplate],
        masks: Sequence[Masks],
        split_of_key: Callable[[str], str | None] = lambda _: "",
    ) -> None:
        self._files = files
        self._split_of_key = split_of_key
        self._rows: list[bytes] = []
        self.images: Counter[str] = Counter()  # split -> number of images
        self.unlisted = 0  # images whose key has no split
        found = [Counter[str]() for _ in masks]  # the same of each kind of masks
        for place, name in enumerate(files):
            self._add(name, place, images, masks, found)
        splits = {split for kind in found for split in kind}
        self.kind_of_split = {split: next(n for n, kind in enumerate(found) if kind[split]) for split in sorted(splits)}
        self.masks = Counter({split: found[kind][split] for split, kind in self.kind_of_split.items()})
        self._rows.sort()

    def __iter__(self) -> Iterator[Claim]:
        """Yields the claims in the order of split and key; those of masks that no split takes are left out."""
        return self._claims(iter(self._rows))

    def drain(self) -> Iterator[Claim]:
        """The same, and gives the memory of each claim back: these are the last ones."""
        self._rows.reverse()
        return self._claims(self._rows.pop() for _ in range(len(self._rows)))

    def _claims(self, rows: Iterator[bytes]) -> Iterator[Claim]:
        current: tuple[str, str] | None = None
        images: list[int] = []
        masks: list[int] = []
        for row in rows:
            split, key, kind, place = row.decode().split(_SEPARATOR)
            if kind != _IMAGE and int(kind) != self.kind_of_split[split]:
                continue
            if current is not None and current != (split, key):
                yield self._claim(current, images, masks)
                images, masks = [], []
            current = split, key
            (images if kind == _IMAGE else masks).append(int(place))
        if current is not None:
            yield self._claim(current, images, masks)

    def first_key_without_split(self) -> str | None:
        """The key of the first image that is in no split."""
        return next((claim.key for claim in self if not claim.split and claim.images), None)

    def folders_of_images(self) -> set[str]:
        """The names of the folders in the keys."""
        return {folder for claim in self if claim.images for folder in claim.key.split("/")[:-1]}

    def _claim(self, of: tuple[str, str], images: Sequence[int], masks: Sequence[int]) -> Claim:
        by_name = self._files.name_at
        return Claim(*of, tuple(sorted(images, key=by_name)), tuple(sorted(masks, key=by_name)))

    def _add(
        self,
        name: str,
        place: int,
        images: Sequence[AnyTemplate],
        masks: Sequence[Masks],
        found: Sequence[Counter[str]],
    ) -> None:
        for number, kind in enumerate(masks):
            if match := kind.template.match(name):
                self._put(match, name, str(number), place, found[number])
                return
        for template in images:
            if match := template.match(name):
                self._put(match, name, _IMAGE, place, self.images)
                return

    def _put(self, match: Name, name: str, kind: str, place: int, count: Counter[str]) -> None:
        key = composed(match.key)
        split = split_of(match.folders, name) or self._split_of_key(key)
        if split is None:
            self.unlisted += kind == _IMAGE
            return
        count[split] += 1
        self._rows.append(_SEPARATOR.join((split, key, kind, str(place))).encode())


def split_of(folders: Sequence[str], name: str) -> str:
    """The split that the folders of the file `name` stand for; "" if there are none."""
    if not folders:
        return ""
    splits = {split_of_folder(folder) or folder: folder for folder in folders}
    if len(splits) > 1:
        both = " and ".join(f"{folder}/" for folder in splits.values())
        raise BuildError(f"{name} is in the folders of two splits, {both}: rename one of them")
    return next(iter(splits))


def composed(text: str) -> str:
    """`text` in the Unicode form NFC: macOS writes NFD, other systems mostly NFC."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)

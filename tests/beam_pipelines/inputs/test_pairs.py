"""Packed pairs: what goes in comes out, in the order asked for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.inputs.pairs import Pair, PairList

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1, max_size=5)
paths = st.lists(texts, min_size=1, max_size=3).map("/".join)
folders = st.sampled_from(["", "/", "/in/", "gs://b/set/", "a.zip!/"])


@st.composite
def pairs(draw: st.DrawFn) -> Pair:
    filename, image_folder, mask_folder = draw(paths), draw(folders), draw(folders)
    image = draw(st.sampled_from([image_folder + filename, "elsewhere", filename]))
    numbers = draw(st.tuples(st.integers(0, 2**40), st.integers(0, 2**62)))
    return Pair(draw(paths), draw(texts), filename, image, mask_folder + draw(paths), *numbers)


@given(st.lists(pairs()))
def test_pairs_come_out_as_they_went_in(some: list[Pair]) -> None:
    packed = PairList(some)
    assert list(packed) == some
    assert [packed[place] for place in range(len(packed))] == some
    assert list(packed[1:3]) == some[1:3]
    assert packed == PairList(some)


@given(st.lists(pairs(), unique_by=lambda pair: pair.key))
def test_the_order_of_keys_is_that_of_their_characters(some: list[Pair]) -> None:
    assert [pair.key for pair in PairList(some).sorted_by_key()] == sorted(pair.key for pair in some)


def test_a_pair_takes_less_than_300_bytes() -> None:
    packed = PairList()
    name = "city042/frame_00000042"
    folder = "gs://bucket/some/data/set/"
    image, mask = f"images/train/{name}.jpg", f"masks/train/{name}.png"
    packed.append(Pair(f"train/{name}", "train", image, folder + image, folder + mask, 320_000, 2**61))
    (row,) = packed._rows
    assert len(row) < 300 - 33 - 8  # the object and its place in the list

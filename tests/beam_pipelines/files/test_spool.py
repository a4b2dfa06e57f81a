"""Documents in a file of ours: found again by their references, wherever the file is, and never read damaged."""

from __future__ import annotations

import contextlib
import gc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.errors import BuildError
from beam_pipelines.files import storage
from beam_pipelines.files.reader import FileReader
from beam_pipelines.files.spool import Reference, Spool, content_of, reference_of, source_of
from beam_pipelines.files.workspace import Workspace
from beam_pipelines.inputs.pairs import Pair, PairList
from beam_pipelines.shards.documents import publish_documents
from beam_pipelines.shards.plan import ShardPlan, cut_shards, list_shards, read_shard, write_plan
from tests.support.builds import recipe_of

DOCUMENTS = [b'{"regions": []}', '{"label": "Stra\u00dfe"}'.encode(), b"{}"]


def pair(key: str, mask: str) -> Pair:
    return Pair(key, "train", f"images/{key}.png", f"/in/images/{key}.png", mask, 10)


def plans(masks: list[str]) -> list[ShardPlan]:
    pairs = PairList(pair(str(index), mask) for index, mask in enumerate(masks))
    return cut_shards({"train": pairs}, recipe_of("--shards=train=1"), 1e6)


def test_documents_are_read_through_their_references() -> None:
    with contextlib.closing(Spool()) as spool, contextlib.closing(FileReader(1000)) as reader:
        references = [spool.add(document, "train.json") for document in DOCUMENTS]
        assert [reader.read(reference) for reference in [*references, *references[::-1]]] == DOCUMENTS + DOCUMENTS[::-1]
        assert {source_of(reference) for reference in references} == {"train.json"}
        path = Path(reference_of(references[0]).path)  # type: ignore[union-attr]
        assert path.read_bytes().splitlines() == DOCUMENTS
    assert not path.parent.exists()


def test_a_spool_that_is_not_closed_leaves_nothing_and_an_unused_one_makes_nothing() -> None:
    spool = Spool()
    spool.close()
    path = Path(reference_of(spool.add(b"{}", "train.json")).path)  # type: ignore[union-attr]
    assert path.exists()
    del spool
    gc.collect()
    assert not path.parent.exists()


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(text, st.integers(0, 2**60), st.integers(0, 2**40), st.integers(0, 2**32 - 1), text)
def test_references_are_text_and_back(folder: str, offset: int, length: int, crc: int, source: str) -> None:
    reference = Reference(f"/{folder}/_build/polygons.jsonl", offset, length, crc, source)
    assert reference_of(str(reference)) == reference
    assert content_of(str(reference)) == content_of(str(reference.at("gs://b/_build/polygons.jsonl", 0)))


@pytest.mark.parametrize("path", ["/in/masks/a.png", "/in/a.json", "/in/polygons.jsonl", "/in/a#0+1:00000000@b", ""])
def test_other_paths_are_no_references(path: str) -> None:
    assert reference_of(path) is None
    assert source_of(path) == content_of(path) == path


def test_a_plan_is_the_same_wherever_the_documents_are_and_another_with_other_documents() -> None:
    with contextlib.closing(Spool()) as one, contextlib.closing(Spool()) as other:
        other.add(b"{ }", "other.json")
        first, again = ([spool.add(document, "a.json") for document in DOCUMENTS] for spool in (one, other))
        changed = [*first[:-1], one.add(b"[]", "a.json")]
        assert first != again
        (plan,), (same,), (different,) = map(plans, (first, again, changed))
    assert plan.digest == same.digest != different.digest


@pytest.fixture(params=["local", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Workspace:
    if request.param == "local":
        return Workspace(str(tmp_path / "data [1] #"))
    return Workspace(f"{request.getfixturevalue('bucket')}/{tmp_path.name}/out")


def test_published_documents_are_in_the_plan_s_order_and_damage_is_told(place: Workspace) -> None:
    with contextlib.closing(Spool()) as spool:
        masks = [spool.add(document, "a.json") for document in DOCUMENTS]
        spooled = plans([masks[2], "/in/masks/a.png", masks[0]])
        shards = publish_documents(place, spooled)
    write_plan(place, shards)
    (plan,) = map(read_shard, list_shards(place.plan))
    assert plan.digest == spooled[0].digest
    assert storage.read_bytes(place.polygons) == DOCUMENTS[2] + b"\n" + DOCUMENTS[0] + b"\n"
    with contextlib.closing(FileReader(1000)) as reader:
        assert [reader.read(plan.pairs[index].mask) for index in (2, 0)] == [DOCUMENTS[0], DOCUMENTS[2]]
    assert plan.pairs[1].mask == "/in/masks/a.png"
    storage.write(place.polygons, b'{}\n{"regions": {}}\n')
    with contextlib.closing(FileReader(1000)) as reader:
        assert reader.read(plan.pairs[0].mask) == b"{}"
        with pytest.raises(BuildError, match=r"polygons\.jsonl is damaged at byte 3: .* run the same command again"):
            reader.read(plan.pairs[2].mask)
    storage.delete([place.polygons])
    with contextlib.closing(FileReader(1000)) as reader, pytest.raises(BuildError, match=r"polygons\.jsonl"):
        reader.read(plan.pairs[2].mask)


def test_without_documents_there_is_no_file_of_them(tmp_path: Path) -> None:
    shards = plans(["/in/masks/a.png"])
    assert publish_documents(Workspace(str(tmp_path)), shards) == shards
    assert not any(tmp_path.iterdir())

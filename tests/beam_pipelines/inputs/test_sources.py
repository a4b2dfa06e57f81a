"""Finding and pairing: Cityscapes as a tree and as its zips, flat folders, shares by hash, and what is refused."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import socket
import struct
import unicodedata
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.errors import BuildError
from beam_pipelines.files.listing import list_local
from beam_pipelines.files.reader import FileReader
from beam_pipelines.inputs import layouts
from beam_pipelines.inputs.layout import Layout, Masks
from beam_pipelines.inputs.pairs import PairList
from beam_pipelines.inputs.sources import Found, find_pairs
from beam_pipelines.inputs.templates import Template
from beam_pipelines.rejects import BadInputError
from tests.support.builds import recipe_of

IMAGE_TYPES = ("jpg", "jpeg", "jpe", "jfif", "png", "bmp", "tif", "tiff", "webp")
CITIES = {"train": ("aachen", "bochum"), "val": ("munster",), "test": ("berlin",), "train_extra": ("augsburg",)}
PER_CITY = 2
LEFT_OUT_TEST = "test: 2 images are left out, their annotations are placeholders (give --splits to build them)"
COARSE_EXTRA = "train_extra: its masks are those of gtCoarse"
SPLITS = ("train", "val")
SHARES = "--splits=train=0.8,val=0.2"


def lay(root: Path, *names: str) -> Path:
    """Makes files; each holds its own name."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    root.mkdir(exist_ok=True)
    return root


def cityscapes_names() -> list[str]:
    """As downloaded: gtFine has train, val and test (dummies), gtCoarse has train, val and train_extra."""
    names = []
    for split, cities in CITIES.items():
        for stem in (f"{split}/{city}/{city}_00000{n}_000019" for city in cities for n in range(PER_CITY)):
            names.append(f"leftImg8bit/{stem}_leftImg8bit.png")
            for kind in {"train_extra": ["gtCoarse"], "test": ["gtFine"]}.get(split, ["gtFine", "gtCoarse"]):
                names += [f"{kind}/{stem}_{kind}_{what}" for what in ("labelIds.png", "color.png", "polygons.json")]
                names += [f"{kind}/{stem}_{kind}_{what}.png" for what in ("instanceIds", "labelTrainIds")]
    return names


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    return lay(tmp_path_factory.mktemp("cityscapes"), *cityscapes_names(), "README", "license.txt")


def pack(path: Path, tree: Path, *folders: str, method: int, prefix: str = "") -> Path:
    """An archive as the official ones are: one folder, a README, a license, entries for folders."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for folder in folders:
            archive.mkdir(prefix + folder)
            for file in sorted((tree / folder).rglob("*")):
                archive.write(file, prefix + str(file.relative_to(tree)))
        for name in ("README", "license.txt"):
            archive.writestr(prefix + name, "read me")
    return path


def find(folder: object, *arguments: str) -> Found:
    return find_pairs(recipe_of(*arguments), str(folder))


def keys(found: Found) -> list[str]:
    return [pair.key for pair in found.pairs]


def splits(found: Found) -> Counter:
    return Counter(pair.split for pair in found.pairs)


def assigned(found: Found) -> dict[str, str]:
    return {pair.key: pair.split for pair in found.pairs}


def refused(folder: object, *arguments: str) -> str:
    with pytest.raises(BuildError) as error:
        find(folder, *arguments)
    return str(error.value)


# --- Cityscapes


def test_a_name_that_is_not_utf8_is_refused_by_name(tmp_path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / os.fsdecode(b"caf\xe9.png")).write_bytes(b"")
    with pytest.raises(BuildError, match=r"caf.udce9\.png' is not UTF-8: rename it"):
        find_pairs(recipe_of(), str(tmp_path))


def test_the_tree_gives_gtfine_and_for_train_extra_gtcoarse_and_says_what_it_leaves_out(tree) -> None:
    found = find(tree)
    assert splits(found) == {"train": 4, "train_extra": 2, "val": 2}
    assert {pair.split for pair in found.pairs if "/gtCoarse/" in pair.mask} == {"train_extra"}
    assert found.rejected == ()
    assert found.notes == (LEFT_OUT_TEST, COARSE_EXTRA)


def test_gtfine_alone_leaves_train_extra_out(tree) -> None:
    found = find(tree, "--annotations=gtFine")
    assert splits(found) == {"train": 4, "val": 2}
    assert found.notes == (LEFT_OUT_TEST, "train_extra: 2 images are left out, none of them has a mask")


def test_train_ids_are_read_where_a_tree_has_nothing_else(tmp_path) -> None:
    root = lay(tmp_path, *(name for name in cityscapes_names() if not name.endswith("labelIds.png")))
    found = find(root, "--annotations=gtFine")
    assert splits(found) == {"train": 4, "val": 2}
    assert all(pair.mask.endswith("_gtFine_labelTrainIds.png") for pair in found.pairs)


def test_a_pair_knows_its_files_their_bytes_and_a_key_that_the_city_is_a_part_of(tree) -> None:
    pair = find(tree).pairs[0]
    stem = "train/aachen/aachen_000000_000019"
    image, mask = f"leftImg8bit/{stem}_leftImg8bit.png", f"gtFine/{stem}_gtFine_labelIds.png"
    assert (pair.key, pair.split, pair.filename) == (stem, "train", image)
    assert (pair.image, pair.mask) == (f"{tree}/{image}", f"{tree}/{mask}")
    assert pair.bytes == len(image) + len(mask)  # each file holds its own name


def test_pairs_are_sorted_and_each_image_has_the_mask_of_its_stem(tree) -> None:
    found = find(tree)
    assert keys(found) == sorted(keys(found))
    for pair in found.pairs:
        kind = "gtCoarse" if pair.split == "train_extra" else "gtFine"
        assert pair.image.endswith(f"leftImg8bit/{pair.key}_leftImg8bit.png")
        assert pair.mask.endswith(f"{kind}/{pair.key}_{kind}_labelIds.png")


def test_coarse_annotations_are_taken_when_asked_for_with_train_extra(tree) -> None:
    found = find(tree, "--annotations=gtCoarse")
    assert splits(found) == {"train": 4, "train_extra": 2, "val": 2}
    assert all(pair.mask.endswith("_gtCoarse_labelIds.png") for pair in found.pairs)
    assert found.notes == (LEFT_OUT_TEST,)


def test_coarse_annotations_are_taken_where_there_are_no_fine_ones(tmp_path) -> None:
    root = lay(tmp_path, *(name for name in cityscapes_names() if not name.startswith("gtFine/")))
    assert find(root) == find(root, "--annotations=gtCoarse")


def test_splits_takes_what_it_names_the_dummies_of_test_too(tree) -> None:
    found = find(tree, "--splits=val,test")
    assert splits(found) == {"test": 2, "val": 2}
    assert found.notes == ()


def test_splits_takes_images_without_masks_and_lists_each(tree) -> None:
    found = find(tree, "--splits=train,train_extra", "--annotations=gtFine")
    assert splits(found) == {"train": 4}
    assert [(bad.split, bad.reason, bad.mask) for bad in found.rejected] == [("train_extra", "missing_mask", None)] * 2
    assert found.rejected[0].detail == (
        "leftImg8bit/train_extra/augsburg/augsburg_000000_000019_leftImg8bit.png has no mask"
    )
    assert found.notes == ()


def test_splits_of_which_no_image_has_a_mask_are_refused(tree) -> None:
    text = refused(tree, "--splits=train_extra", "--annotations=gtFine")
    assert re.search(r"no image has a mask with its name; the first .*has no mask", text)


def test_splits_that_are_not_there_are_named(tree) -> None:
    text = "--splits names demo, foo; the input has test, train, train_extra, val"
    assert refused(tree, "--splits=train,foo,demo") == text


def test_shares_are_refused_where_the_folders_have_splits(tree) -> None:
    assert "the folders already have splits (test, train, train_extra, val): name" in refused(tree, SHARES)


def test_images_without_annotations_are_told_from_nothing_at_all(tmp_path) -> None:
    root = lay(tmp_path, "leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png")
    text = refused(root)
    assert "images of the layout Cityscapes (leftImg8bit/SPLIT/*_leftImg8bit.png) but no masks of it (gtFine/" in text
    assert ": add gtFine_trainvaltest.zip, or its content, to --input. It also has images of the layout IDD (" in text


def test_the_tree_may_stand_in_folders_of_any_depth(tree, tmp_path) -> None:
    root = lay(tmp_path, *(f"data/cityscapes/{name}" for name in cityscapes_names()))
    nested, plain = find(root), find(tree)
    assert keys(nested) == keys(plain)
    assert nested.notes == plain.notes
    assert {pair.filename for pair in nested.pairs} == {f"data/cityscapes/{pair.filename}" for pair in plain.pairs}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
@pytest.mark.parametrize("how", ["list", "folder", "one archive", "zip and folder"])
def test_zips_give_the_pairs_of_the_tree_but_for_their_paths(tree, tmp_path, method, how) -> None:
    if how == "one archive":
        source = f"{pack(tmp_path / 'all.zip', tree, 'leftImg8bit', 'gtFine', method=method)}"
    else:
        images = pack(tmp_path / "leftImg8bit_trainvaltest.zip", tree, "leftImg8bit", method=method)
        source = {"list": f"{images},{tmp_path}/gtFine_trainvaltest.zip", "folder": f"{tmp_path}"}.get(how, "")
        if how == "zip and folder":
            source = f"{images},{lay(tmp_path / 'fine', *(n for n in cityscapes_names() if n.startswith('gtFine/')))}/"
        else:
            pack(tmp_path / "gtFine_trainvaltest.zip", tree, "gtFine", method=method)
    found, plain = (find(place, "--annotations=gtFine") for place in (source, tree))

    def without_paths(found: Found) -> Found:
        return replace(found, pairs=PairList(replace(pair, image="", mask="", modified=0) for pair in found.pairs))

    assert without_paths(found) == without_paths(plain)
    reader = FileReader(10_000)
    for packed, loose in zip(found.pairs, plain.pairs, strict=True):
        assert ".zip!/" in packed.image
        assert reader.read(packed.image) == Path(loose.image).read_bytes()
        assert reader.read(packed.mask) == Path(loose.mask).read_bytes()
    reader.close()


def test_archives_may_hold_a_prefix_folder(tree, tmp_path) -> None:
    archive = pack(tmp_path / "all.zip", tree, "leftImg8bit", "gtFine", method=zipfile.ZIP_STORED, prefix="my data/")
    assert keys(find(archive)) == keys(find(tree, "--annotations=gtFine"))


def test_unpacked_pictures_are_taken_before_the_archives_beside_them(tree, tmp_path) -> None:
    lay(tmp_path, *cityscapes_names())
    pack(tmp_path / "leftImg8bit_trainvaltest.zip", tree, "leftImg8bit", method=zipfile.ZIP_STORED)
    assert not any(".zip" in pair.image for pair in find(tmp_path).pairs)


def test_a_picture_in_two_inputs_is_refused(tree) -> None:
    text = refused(f"{tree},{tree}")
    assert text.startswith(f"--input={tree},{tree}: gtCoarse/train/aachen/")
    assert " occurs twice, as " in text
    assert text.endswith("; leave one of them out")


@pytest.mark.parametrize(
    ("other", "twice"),
    [
        ("b.zip", "a.zip!/masks/train/a.png and as {}/b.zip!/masks/train/a.png"),
        ("masks/train/a.png", "masks/train/a.png and as {}/a.zip!/masks/train/a.png"),
    ],
)
def test_a_picture_that_occurs_twice_in_a_folder_of_archives_is_refused(tmp_path, other, twice) -> None:
    zipped(tmp_path / "a.zip", *PAIR, "README")
    if other == "b.zip":
        zipped(tmp_path / other, "masks/train/a.png", "README")
    else:
        lay(tmp_path, other, "README")
    told = f"{tmp_path}: masks/train/a.png occurs twice, as {tmp_path}/{twice.format(tmp_path)}; leave one of them out"
    assert refused(tmp_path) == told


def test_the_real_sample_of_cityscapes_is_found(cityscapes_sample) -> None:
    found = find(cityscapes_sample)
    assert keys(found) == [f"train/aachen/aachen_{n:06d}_000019" for n in range(len(found.pairs))]
    assert len(found.pairs) >= 4
    assert found.rejected == ()
    assert all(pair.bytes == sum(Path(path).stat().st_size for path in (pair.image, pair.mask)) for pair in found.pairs)


# --- flat folders


@pytest.mark.parametrize("masks", ["masks", "annotations", "labels"])
@pytest.mark.parametrize("order", ["{kind}/{split}/{stem}", "{split}/{kind}/{stem}"])
def test_flat_folders_pair_by_stem_with_split_folders_above_or_below(tmp_path, masks, order) -> None:
    for split, count in (("train", 3), ("val", 2)):
        for stem in (f"scene {n}" for n in range(count)):
            lay(tmp_path, order.format(kind="images", split=split, stem=stem) + ".jpg")
            lay(tmp_path, order.format(kind=masks, split=split, stem=stem) + ".png")
    found = find(tmp_path)
    assert keys(found) == [*(f"train/scene {n}" for n in range(3)), "val/scene 0", "val/scene 1"]
    assert found.pairs[3].filename == order.format(kind="images", split="val", stem="scene 0") + ".jpg"
    assert found.pairs[3].mask == f"{tmp_path}/" + order.format(kind=masks, split="val", stem="scene 0") + ".png"
    assert (found.rejected, found.notes) == ((), ())


@pytest.mark.parametrize(
    ("folder", "split"),
    [("training", "train"), ("Train", "train"), ("valid", "val"), ("validation", "val"), ("testing", "test")],
)
def test_the_usual_names_of_split_folders_are_known(tmp_path, folder, split) -> None:
    lay(tmp_path, f"images/{folder}/a.png", f"masks/{folder}/a.png", "images/train/b.png", "masks/train/b.png")
    assert assigned(find(tmp_path))[f"{split}/a"] == split


def test_a_test_split_with_masks_is_taken_outside_cityscapes(tmp_path) -> None:
    lay(tmp_path, *(f"{kind}/{split}/a.png" for kind in ("images", "masks") for split in ("train", "test")))
    assert splits(find(tmp_path)) == {"test": 1, "train": 1}


def test_a_split_without_masks_is_left_out_with_a_note(tmp_path) -> None:
    lay(tmp_path, "images/train/a.png", "masks/train/a.png", "images/test/b.png")
    found = find(tmp_path)
    assert splits(found) == {"train": 1}
    assert found.notes == ("test: 1 images are left out, none of them has a mask",)


def test_a_split_without_images_is_left_out_with_a_note(tmp_path) -> None:
    lay(tmp_path, "images/train/a.png", "masks/train/a.png", "masks/val/b.png", "masks/val/c.png")
    found = find(tmp_path)
    assert splits(found) == {"train": 1}
    assert found.notes == ("val: 2 masks are left out, none of them has an image",)


@pytest.mark.parametrize("extension", [*IMAGE_TYPES, *(name.upper() for name in IMAGE_TYPES)])
def test_every_type_of_image_is_found_in_upper_case_too(tmp_path, extension) -> None:
    lay(tmp_path, f"images/train/a.{extension}", "masks/train/a.PNG")
    assert find(tmp_path).pairs[0].filename == f"images/train/a.{extension}"


@pytest.mark.parametrize(
    "stem",
    ["with space", "straße", "東京/渋谷 1", "a.b.c", "e\u0301", "quote'\"", "percent%20", "[1]*?", "a,b", "#!/x"],
)
def test_names_may_hold_spaces_points_subfolders_and_any_alphabet(tmp_path, stem) -> None:
    lay(tmp_path, f"images/train/{stem}.png", f"masks/train/{stem}.png")
    (pair,) = find(tmp_path).pairs
    assert pair.key == unicodedata.normalize("NFC", f"train/{stem}")
    assert pair.filename == f"images/train/{stem}.png"
    assert Path(pair.image).read_bytes() == f"images/train/{stem}.png".encode()
    assert FileReader(1000).read(pair.image) == f"images/train/{stem}.png".encode()


def test_stems_keep_their_case(tmp_path) -> None:
    lay(tmp_path, "images/train/A.png", "masks/train/A.png", "images/train/a.png", "masks/train/a.png")
    assert keys(find(tmp_path)) == ["train/A", "train/a"]


def test_hidden_files_and_shadows_of_file_managers_are_not_seen(tmp_path) -> None:
    lay(tmp_path, "images/train/a.png", "masks/train/a.png", "images/train/._a.png", "masks/train/.DS_Store")
    lay(tmp_path, "images/train/.hidden.png", "images/train/Thumbs.db", "images/train/a.txt")
    lay(tmp_path, "__MACOSX/images/train/b.png", "__MACOSX/masks/train/._b.png")
    assert keys(find(tmp_path)) == ["train/a"]
    assert find(tmp_path).rejected == ()
    archive = tmp_path / "mac.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for file in sorted(path for path in tmp_path.rglob("*") if path.is_file() and path != archive):
            packed.write(file, file.relative_to(tmp_path))
    assert keys(find(archive)) == ["train/a"]


def test_the_shadows_of_cityscapes_are_not_seen(tree, tmp_path) -> None:
    lay(tmp_path, *cityscapes_names(), *(f"__MACOSX/{name}" for name in cityscapes_names()))
    assert keys(find(tmp_path)) == keys(find(tree))


def test_links_are_followed(tmp_path) -> None:
    lay(tmp_path / "far", "images/a.png", "masks/a.png")
    for kind in ("images", "masks"):
        (tmp_path / "near" / kind).mkdir(parents=True)
        (tmp_path / "near" / kind / "train").symlink_to(tmp_path / "far" / kind)
    assert keys(find(tmp_path / "near")) == ["train/a"]


def test_a_broken_link_is_found_and_has_no_bytes(tmp_path) -> None:
    lay(tmp_path, "masks/train/a.png").joinpath("images/train").mkdir(parents=True)
    (tmp_path / "images/train/a.png").symlink_to(tmp_path / "nowhere.png")
    assert [pair.bytes for pair in find(tmp_path).pairs] == [len("masks/train/a.png")]


def test_camvid_is_found(camvid) -> None:
    found = find(camvid)
    assert set(splits(found)) == {"train", "val"}
    assert len(found.pairs) == len(list((camvid / "images").rglob("*.png")))
    assert (found.rejected, found.notes) == ((), ())


# --- shares


def flat(root: Path, stems: list[str]) -> Path:
    return lay(root, *(f"{kind}/{stem}.png" for kind in ("images", "masks") for stem in stems))


def test_folders_without_splits_need_shares(tmp_path) -> None:
    text = refused(flat(tmp_path, ["a", "b"]))
    assert text.startswith("the folders have no splits (train/, val/): give --splits=train=0.8,val=0.2")
    assert "--group_by=REGEX" in text


def test_images_partly_in_split_folders_are_refused(tmp_path) -> None:
    lay(flat(tmp_path, ["loose"]), "images/train/a.png", "masks/train/a.png")
    text = "some images are in folders of splits, and others, such as loose, are not: move these into one"
    assert refused(tmp_path) == text
    assert refused(tmp_path, SHARES) == text


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """2,000 pairs of 100 drives."""
    return flat(tmp_path_factory.mktemp("many"), [f"drive{n % 100:02d}_{n:05d}" for n in range(2000)])


def test_shares_of_2000_keys_are_close_to_those_asked_for(many) -> None:
    counts = splits(find(many, "--splits=train=0.7,val=0.2,test=0.1"))
    assert sum(counts.values()) == 2000
    for split, share in (("train", 0.7), ("val", 0.2), ("test", 0.1)):
        assert abs(counts[split] / 2000 - share) < 0.03  # three standard deviations of a fair draw


def test_a_split_depends_on_the_key_alone(many, tmp_path) -> None:
    everything = assigned(find(many, SHARES))
    some = [key for number, key in enumerate(sorted(everything)) if number % 7 == 0]
    assert assigned(find(flat(tmp_path, some), SHARES)) == {key: everything[key] for key in some}
    assert assigned(find(many, SHARES, "--seed=5")) == everything


def test_the_hash_is_frozen(tmp_path) -> None:
    """Another assignment would move pictures of a user's data set between train and val."""
    found = assigned(find(flat(tmp_path, list("abcdefgh")), "--splits=train=0.5,val=0.5"))
    assert "".join(found[key][0] for key in "abcdefgh") == "vtttttvv"


def test_a_share_of_nothing_gets_nothing(many) -> None:
    assert splits(find(many, "--splits=test=0,train=100%,val=0")) == {"train": 2000}


def test_groups_stay_together(many) -> None:
    found = assigned(find(many, SHARES, r"--group_by=^(drive\d+)_"))
    split_of = {key.partition("_")[0]: split for key, split in found.items()}
    assert all(split_of[key.partition("_")[0]] == split for key, split in found.items())
    assert set(split_of.values()) == {"train", "val"}
    # The whole match is the group where the expression has no parentheses.
    assert assigned(find(many, SHARES, r"--group_by=drive\d+")) == found


@pytest.mark.parametrize("group_by", [r"city\d", r"x*", r"(city)?_00001"])
def test_a_key_without_a_group_is_refused(tmp_path, group_by) -> None:
    root = flat(tmp_path, ["drive_00001"])
    text = f"--group_by={group_by} matches nothing in 'drive_00001': every key needs a group"
    assert refused(root, SHARES, f"--group_by={group_by}") == text


# --- what does not pair


def test_missing_partners_and_keys_claimed_twice_are_listed(tmp_path) -> None:
    lay(tmp_path, "images/train/good.png", "masks/train/good.png")
    lay(tmp_path, "images/train/alone.webp", "masks/val/orphan.png", "images/val/x.png", "masks/val/x.png")
    lay(tmp_path, "images/train/twice.jpg", "images/train/twice.PNG", "masks/train/twice.png")
    found = find(tmp_path)
    assert keys(found) == ["train/good", "val/x"]
    assert [(bad.key, bad.split, bad.stage, bad.reason, bad.detail) for bad in found.rejected] == [
        ("train/alone", "train", "pair", "missing_mask", "images/train/alone.webp has no mask"),
        (
            "train/twice",
            "train",
            "pair",
            "duplicate_key",
            "images/train/twice.PNG and images/train/twice.jpg have the same key",
        ),
        ("val/orphan", "val", "pair", "missing_image", "masks/val/orphan.png has no image"),
    ]
    assert [(bad.image, bad.mask) for bad in found.rejected] == [
        (f"{tmp_path}/images/train/alone.webp", None),
        (f"{tmp_path}/images/train/twice.PNG", f"{tmp_path}/masks/train/twice.png"),
        (None, f"{tmp_path}/masks/val/orphan.png"),
    ]
    json.dumps([bad.to_json() for bad in found.rejected])


def test_a_mask_in_both_orders_of_the_folders_is_claimed_twice(tmp_path) -> None:
    lay(tmp_path, "images/train/a.png", "masks/train/a.png", "train/masks/a.png")
    lay(tmp_path, "images/train/b.png", "masks/train/b.png")
    (bad,) = find(tmp_path).rejected
    assert (bad.reason, bad.detail) == ("duplicate_key", "masks/train/a.png and train/masks/a.png have the same key")


@given(st.sets(st.sampled_from("abcdefghij"), min_size=1), st.sets(st.sampled_from("abcdefghij"), min_size=1))
def test_every_stem_is_paired_or_rejected_once(tmp_path_factory, images, masks) -> None:
    root = tmp_path_factory.mktemp("flat")
    lay(root, "images/train/!.png", "masks/train/!.png")
    lay(root, *(f"images/train/{stem}.jpg" for stem in images), *(f"masks/train/{stem}.png" for stem in masks))
    found = find(root)
    assert set(keys(found)) == {f"train/{stem}" for stem in {"!"} | images & masks}
    reasons = {bad.key: bad.reason for bad in found.rejected}
    missing = dict.fromkeys(images - masks, "missing_mask") | dict.fromkeys(masks - images, "missing_image")
    assert reasons == {f"train/{stem}": reason for stem, reason in missing.items()}


def test_two_folders_of_masks_are_refused(tmp_path) -> None:
    root = lay(tmp_path, "images/train/a.png", "masks/train/a.png", "labels/train/a.png")
    assert refused(root) == (
        f"{root} can be read as images/*.* with masks/*.png and as images/*.* with labels/*.png: keep one of these, or "
        "say which, as in --images='images/{split}/{key}.{type}' --masks='masks/{split}/{key}.png'"
    )


def test_a_folder_of_masks_whose_names_are_those_of_no_image_does_not_count(tmp_path) -> None:
    root = lay(tmp_path, *PAIR, "gt/other.png")
    assert [pair.mask for pair in find(root).pairs] == [f"{root}/masks/train/a.png"]


def test_no_name_in_common_is_refused_with_the_first_problem(tmp_path) -> None:
    root = lay(tmp_path, "images/train/a.png", "masks/train/b.png")
    text = f"{root}: no image has a mask with its name; the first problem: images/train/a.png has no mask"
    assert refused(root) == text


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ([], "It has no files. Known are Cityscapes; IDD; ACDC; "),
        (["a.txt", "b/c.png"], "Its first files are a.txt, b/c.png. Known are "),
        (["masks/a.png"], "Its first files are masks/a.png. Nearest: folders, but there are no images (images/*.*, "),
        ([f"x/{n}.jpg" for n in range(9)], "Its first files are x/0.jpg, x/1.jpg, x/2.jpg, x/3.jpg, x/4.jpg, ... (9 f"),
    ],
)
def test_an_input_without_a_layout_shows_its_files_and_the_nearest_layouts(tmp_path, names, told) -> None:
    text = refused(lay(tmp_path, *names), SHARES)
    assert text.startswith(f"{tmp_path} has no known layout. {told}")
    assert text.endswith("Give --images and --masks with the patterns of your names")


@pytest.mark.parametrize(
    ("image", "mask", "told"),
    [
        (
            "images/train/b.png",
            "masks/train/b.jpg",
            "; there is masks/train/b.jpg, and masks are PNG files: convert it",
        ),
        (
            "images/train/b.png",
            "masks/train/b.gif",
            "; there is masks/train/b.gif, and masks are PNG files: convert it",
        ),
        (
            "images/train/b.heic",
            "masks/train/b.png",
            "; there is images/train/b.heic, and HEIC files are not read: con",
        ),
        ("images/train/b.png", "masks/train/b_mask.png", "; is it masks/train/b_mask.png? Give --images and --masks"),
    ],
)
def test_a_missing_partner_is_told_by_the_file_that_was_meant(tmp_path, image, mask, told) -> None:
    found = find(lay(tmp_path, *PAIR, image, mask))
    assert [pair.key for pair in found.pairs] == ["train/a"]
    assert told in found.rejected[0].detail


@pytest.mark.parametrize(
    ("image", "mask"),
    [("{}.png", "{}_mask.png"), ("{}_img.jpg", "{}_gt.png"), ("{}.jpg", "{}.jpg.png"), ("{}_rgb.png", "{}_L.png")],
)
def test_the_usual_ends_of_names_are_known(tmp_path, image, mask) -> None:
    lay(tmp_path, *(f"imgs/train/{image.format(n)}" for n in "ab"), *(f"gts/train/{mask.format(n)}" for n in "ab"))
    assert keys(find(tmp_path)) == ["train/a", "train/b"]


def test_ends_of_names_that_can_be_read_in_two_ways_are_refused(tmp_path) -> None:
    lay(tmp_path, "images/train/a.png", "masks/train/a_mask.png", "masks/train/a_gt.png")
    assert "can be read as images/*.* with masks/*_mask.png and as images/*.* with masks/*_gt.png" in refused(tmp_path)


@pytest.mark.parametrize("folder", ["train_extra", "testA", "trainval", "dev", "eval-1"])
def test_folders_that_look_like_splits_are_not_mixed_by_shares(tmp_path, folder) -> None:
    lay(tmp_path, *(f"{kind}/{name}/a.png" for kind in ("images", "masks") for name in (folder, "other")))
    assert f"the folders {folder}/ look like splits, which shares in --splits would mix" in refused(tmp_path, SHARES)
    assert len(find(tmp_path, SHARES, "--pool_splits").pairs) == 2
    patterns = ("--images=images/{split}/{key}.png", "--masks=masks/{split}/{key}.png")
    assert set(splits(find(tmp_path, *patterns))) == {folder, "other"}


@pytest.mark.parametrize("folder", ["trainstation", "tests", "valley", "device"])
def test_folders_that_only_begin_like_splits_are_plain_folders(tmp_path, folder) -> None:
    lay(tmp_path, *(f"{kind}/{folder}/a.png" for kind in ("images", "masks")))
    assert keys(find(tmp_path, SHARES)) == [f"{folder}/a"]


def test_pooled_splits_are_divided_anew_and_told(tmp_path) -> None:
    names = [f"{split}/{n}" for split in ("train", "val") for n in range(50)]
    lay(tmp_path, *(f"{kind}/{name}.png" for kind in ("images", "masks") for name in names))
    found = find(tmp_path, "--splits=train=0.5,test=0.5", "--pool_splits")
    assert set(splits(found)) == {"train", "test"}
    assert keys(found) == sorted(names)
    assert found.notes == ("the input's splits (train, val) are pooled and divided anew: train 50%, test 50%",)
    refusal = refused(flat(tmp_path / "flat", ["a"]), SHARES, "--pool_splits")
    assert refusal == "--pool_splits is for an input that has splits, and the folders have none"


@pytest.mark.parametrize(
    ("image", "mask", "proposal"),
    [
        ("rgb/{}.jpg", "sem/{}.png", "--images='rgb/{key}.jpg' --masks='sem/{key}.png'"),
        ("all/{}.jpg", "all/{}_mask.png", "--images='all/{key}.jpg' --masks='all/{key}_mask.png'"),
        ("x/train/{}.tif", "y/train/{}_L.png", "--images='x/{split}/{key}.tif' --masks='y/{split}/{key}_L.png'"),
        ("p/q/r/{}.png", "p/s/t/{}.png", "--images='p/q/r/{key}.png' --masks='p/s/t/{key}.png'"),
        (
            "photos/d1/{}.jpg",
            "marked/d1/{}_farbe.png",
            "--images='photos/d1/{key}.jpg' --masks='marked/d1/{key}_farbe.png'",
        ),
    ],
)
def test_names_that_fit_each_other_are_proposed_as_patterns(tmp_path, image, mask, proposal) -> None:
    lay(tmp_path, *(form.format(stem) for form in (image, mask) for stem in ("one", "two", "three")))
    text = refused(tmp_path, SHARES)
    assert text.endswith(f"These names fit: {proposal}")
    patterns = [option.strip() for option in proposal.replace("'", "").split()]
    split = [] if "{split}" in proposal else [SHARES]
    assert len(find(tmp_path, *patterns, *split).pairs) == 3


@pytest.mark.parametrize("names", [["images/a.png"], ["images/a.png", "masks/a.jpg"]])
def test_images_without_masks_say_where_masks_are_looked_for(tmp_path, names) -> None:
    text = refused(lay(tmp_path, *names), SHARES)
    assert "images of the layout folders (images/*.*) but no masks of it (masks/*.png, annotations/*.png, lab" in text
    assert ("masks/a.jpg is a JPG file" if len(names) > 1 else "each a PNG file with the name of its image") in text


def test_images_of_another_layout_are_left_out_with_a_note(tree, tmp_path) -> None:
    lay(tmp_path, *cityscapes_names(), "images/train/a.png", "masks/train/a.png")
    found = find(tmp_path)
    assert keys(found) == keys(find(tree))
    assert found.notes[0] == (
        "1 images of the layout folders are left out: the input is read as Cityscapes; --layout=folders reads them"
    )
    assert keys(find(tmp_path, "--layout=folders")) == ["train/a"]


def test_folders_below_another_layout_are_left_out_with_a_note(tree, tmp_path) -> None:
    lay(tmp_path, *cityscapes_names(), *(f"cam/{kind}/{split}.png" for kind in ("images", "masks") for split in "abc"))
    found = find(tmp_path)
    assert keys(found) == keys(find(tree))
    cure = f"--input={tmp_path}/cam"
    assert found.notes[0] == (f"3 images in cam are left out: the input is read as Cityscapes; {cure} reads them")
    assert keys(find(cure.removeprefix("--input="), SHARES)) == ["a", "b", "c"]


def test_folders_below_the_usual_folders_are_left_out_with_a_note(tmp_path) -> None:
    above = ("images/train/a.png", "masks/train/a.png", "images/train/images/b.png", "images/train/masks/b.png")
    lay(tmp_path, *above, "more/x/images/train/a.JPG", "more/x/masks/train/a.png", "alone/images/c.png")
    of_folders = [note for note in find(tmp_path).notes if "left out" in note]
    assert of_folders == [
        f"1 image in more/x is left out: the input is read as folders; --input={tmp_path}/more/x reads them"
    ]


def test_folders_below_in_an_archive_are_read_by_patterns(tmp_path) -> None:
    lay(tmp_path, "c/images/train/a.png", "c/masks/train/a.png", "d/readme.txt", *cityscapes_names())
    names = [path for path in tmp_path.rglob("*") if path.is_file()]
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in names:
            archive.write(path, path.relative_to(tmp_path))
    options = "--images='c/images/{split}/{key}.png' --masks='c/masks/{split}/{key}.png'"
    found = find(tmp_path / "all.zip")
    assert f"1 image in c is left out: the input is read as Cityscapes; {options} reads them" in found.notes
    assert keys(find(tmp_path / "all.zip", *shlex.split(options))) == ["train/a"]


NEW_LAYOUT = Layout(
    name="Sunny",
    option="sunny",
    images=(Template("photos/{split}/{key}.jpg"),),
    masks=tuple(
        Masks(template=Template(f"{kind}/{{split}}/{{key}}_ids.png"), name=kind) for kind in ("exact", "rough")
    ),
    unlabeled=frozenset({"test"}),
    cure="add exact/",
)


def test_a_new_layout_is_one_row(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(layouts, "LAYOUTS", (*layouts.LAYOUTS, NEW_LAYOUT))
    lay(tmp_path, *(f"photos/{split}/a.jpg" for split in ("train", "test")))
    assert "no masks of it (exact/SPLIT/*_ids.png or rough/SPLIT/*_ids.png): add exact/" in refused(tmp_path)
    lay(tmp_path, *(f"{kind}/{split}/a_ids.png" for kind in ("exact", "rough") for split in ("train", "test")))
    found = find(tmp_path)
    assert [pair.mask for pair in found.pairs] == [f"{tmp_path}/exact/train/a_ids.png"]
    assert found.notes == (
        "test: 1 images are left out, their annotations are placeholders (give --splits to build them)",
    )
    rough = find_pairs(replace(recipe_of("--splits=test"), annotations="rough"), str(tmp_path))
    assert [pair.mask for pair in rough.pairs] == [f"{tmp_path}/rough/test/a_ids.png"]
    assert refused(tmp_path / "photos").endswith(f": give --input={tmp_path}")
    assert "is only for Cityscapes or IDD" in refused(lay(tmp_path / "none"), "--annotations=gtFine")


def test_a_missing_folder_is_named(tmp_path) -> None:
    assert refused(tmp_path / "nowhere") == f"{tmp_path}/nowhere does not exist"
    assert refused(lay(tmp_path, "file.txt") / "file.txt") == f"{tmp_path}/file.txt is not a folder"
    assert refused(tmp_path / "nowhere.zip") == f"{tmp_path}/nowhere.zip does not exist"


def test_what_is_not_a_zip_archive_is_refused(tmp_path) -> None:
    path = tmp_path / "page.zip"
    path.write_bytes(b"<html>log in first</html>")
    assert refused(path) == (f"{path} is not a zip archive, or is truncated: File is not a zip file; download it again")


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.999])
def test_a_zip_archive_that_was_cut_off_is_refused(tree, tmp_path, share) -> None:
    path = pack(tmp_path / "cut.zip", tree, "leftImg8bit", "gtFine", method=zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert refused(path).startswith(f"{path} is not a zip archive, or is truncated: ")
    # Named by the folder that it lies in, too.
    assert refused(tmp_path).startswith(f"{path} is not a zip archive, or is truncated: ")


# What stands in real folders and archives


PAIR = ("images/train/a.png", "masks/train/a.png")


def read(path: str, max_bytes: int = 1000) -> bytes:
    with contextlib.closing(FileReader(max_bytes)) as reader:
        return reader.read(path)


def zipped(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, name)
    return path


def test_pipes_and_sockets_are_no_pictures(tmp_path, monkeypatch) -> None:
    lay(tmp_path, *PAIR, "masks/train/pipe.png")
    os.mkfifo(tmp_path / "images/train/pipe.png")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("images/train/socket.png")
        found = find(tmp_path)
    assert keys(found) == ["train/a"]
    assert [(bad.reason, bad.key) for bad in found.rejected] == [("missing_image", "train/pipe")]


def test_an_archive_that_is_a_pipe_is_refused(tmp_path) -> None:
    os.mkfifo(tmp_path / "a.zip")
    assert refused(tmp_path / "a.zip").endswith(
        "it is a pipe, a socket or a device, not a regular file; check the path"
    )


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (os.mkfifo, "not a regular file"),
        (os.mkdir, "Is a directory"),
        (lambda path: None, "No such file"),
    ],
    ids=["pipe", "folder", "gone"],
)
def test_a_file_that_turned_into_something_else_is_rejected(tmp_path, change, problem) -> None:
    (pair,) = find(lay(tmp_path, *PAIR)).pairs
    os.remove(pair.image)
    change(pair.image)
    with pytest.raises(BadInputError, match=problem) as caught:
        read(pair.image)
    assert caught.value.reason == "unreadable"


def test_links_to_folders_above_end_and_add_nothing(tmp_path) -> None:
    lay(tmp_path, *PAIR)
    for name in ("again", "images/a_loop", "images/train/b_loop", "masks/c_loop"):
        (tmp_path / name).symlink_to(tmp_path)
    found = find(tmp_path)
    assert [pair.filename for pair in found.pairs] == ["images/train/a.png"]
    assert found.rejected == ()


def test_a_ladder_of_links_is_walked_once(tmp_path) -> None:
    for depth in range(40):
        (tmp_path / f"f{depth}").mkdir()
    for depth in range(39):
        for name in ("x", "y"):
            (tmp_path / f"f{depth}" / name).symlink_to(tmp_path / f"f{depth + 1}")
    lay(tmp_path, "f39/one.txt")
    assert list(list_local(str(tmp_path / "f0"))) == [("/".join(["x"] * 39) + "/one.txt", len("f39/one.txt"))]


def test_folders_of_other_programs_are_left_alone(tmp_path) -> None:
    others = (".ipynb_checkpoints", "@eaDir", "__MACOSX", ".thumbnails", ".Trash-1000", "#recycle", ".hidden")
    lay(tmp_path / "in", *PAIR, *(f"{kind}/train/{other}/b.png" for kind in ("images", "masks") for other in others))
    lay(tmp_path / "in", *(f"{other}/images/train/c.png" for other in others))
    names = [str(path.relative_to(tmp_path / "in")) for path in (tmp_path / "in").rglob("*") if path.is_file()]
    for source in (tmp_path / "in", zipped(tmp_path / "in.zip", *names)):
        found = find(source)
        assert (keys(found), found.rejected) == (["train/a"], ())


def test_names_pair_across_unicode_forms_and_twins_are_named(tmp_path) -> None:
    composed, decomposed = "\u00e9", "e\u0301"
    lay(tmp_path, *PAIR, f"images/train/{composed}.jpg", f"masks/train/{decomposed}.png")
    assert keys(find(tmp_path)) == ["train/a", f"train/{composed}"]
    lay(tmp_path, f"images/train/{decomposed}.jpg")
    (bad,) = find(tmp_path).rejected
    assert bad.reason == "duplicate_key"
    assert bad.detail.endswith("have the same key; only their Unicode form differs")


@pytest.mark.parametrize("prefix", ["", "./", "my set-main/", "segmentation/"])
@pytest.mark.parametrize(("suffix", "kind", "masks"), [("zip", "png", "masks"), ("ZIP", "jpg", "labels")])
def test_an_archive_is_read_as_the_folder_in_it(tmp_path, prefix, suffix, kind, masks) -> None:
    names = (f"images/train/a.{kind}", f"{masks}/train/a.png")
    archive = zipped(tmp_path / f"a.{suffix}", *(prefix + name for name in names))
    for source in (archive, tmp_path):
        (pair,) = find(source).pairs
        assert (pair.key, pair.filename) == ("train/a", names[0])
        assert read(pair.image) == f"{prefix}{names[0]}".encode()


@pytest.mark.parametrize("options", [("--images=cam/{key}.jpg", "--masks=sem/{key}.png", SHARES), (SHARES,)])
def test_the_same_image_in_two_inputs_is_refused_whatever_the_layout(tmp_path, options) -> None:
    masks = ("sem/a.png",) if len(options) > 1 else ("cam/a.json",)
    for name in ("one", "two"):
        lay(tmp_path / name, "cam/a.jpg", *masks)
    assert "cam/a.jpg occurs twice" in refused(f"{tmp_path}/one,{tmp_path}/two", *options)


@pytest.mark.parametrize(
    "names", [("Images/train/a.jpg", "Masks/train/a.png"), ("Train/Images/a.jpg", "Train/Labels/a.png")]
)
def test_the_case_of_folders_does_not_matter(tmp_path, names) -> None:
    assert keys(find(lay(tmp_path, *names))) == ["train/a"]


def test_folders_of_the_usual_names_come_before_others(tmp_path) -> None:
    lay(tmp_path, *PAIR, "seg/train/a.png", "rgb/train/a.png")
    assert [pair.filename for pair in find(tmp_path).pairs] == [PAIR[0]]


def test_folders_named_as_mapillary_s_with_a_config_of_something_else_are_plain_folders(tmp_path) -> None:
    lay(tmp_path, *(f"{split}/{kind}" for split in ("train", "test") for kind in ("images/a.jpg", "labels/a.png")))
    lay(tmp_path, *(f"training/{kind}" for kind in ("images/b.jpg", "labels/b.png")))
    (tmp_path / "config.json").write_text('{"labels": ["road"]}')
    assert keys(find(tmp_path)) == ["test/a", "train/a", "train/b"]


def test_patterns_without_a_split_do_not_mix_the_folders_of_splits(tmp_path) -> None:
    lay(tmp_path, *(f"{kind}/{split}/a.png" for kind in ("images", "masks") for split in ("train", "val")))
    patterns = ("--images=images/{key}.png", "--masks=masks/{key}.png")
    assert "the folders train/, val/ look like splits" in refused(tmp_path, *patterns, SHARES)


def test_the_patterns_that_a_refusal_proposes_keep_the_splits(tmp_path) -> None:
    root = lay(tmp_path, *PAIR, "labels/train/a.png")
    text = refused(root)
    assert text.endswith("--images='images/{split}/{key}.{type}' --masks='masks/{split}/{key}.png'")
    assert keys(find(root, *text.replace("'", "").split()[-2:])) == ["train/a"]


def test_backslashes_in_an_archive_are_read_as_slashes(tmp_path) -> None:
    (pair,) = find(zipped(tmp_path / "net.zip", *(name.replace("/", "\\") for name in PAIR))).pairs
    assert pair.filename == "images/train/a.png"
    assert read(pair.image) == rb"images\train\a.png"


@pytest.mark.parametrize(
    ("name", "problem"),
    [("/images/a.png", "is absolute"), ("C:\\a.png", "is absolute"), ("images/../a.png", "leads out of the archive")],
)
def test_a_member_name_that_is_not_valid_is_named(tmp_path, name, problem) -> None:
    text = refused(zipped(tmp_path / "a.zip", *PAIR, name))
    assert f"the member name {name!r} {problem}" in text


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (b"images/train/a.png", b"images/tra\0n/a.png", "holds a NUL character"),
        ("images/train/\u00e9.png".encode(), b"images/train/\xff\xff.png", "is not UTF-8"),
        (b"PK\x01\x02\x14\x03\x14\x00", b"PK\x01\x02\x14\x03\x63\x00", "zip file version 9.9"),
    ],
    ids=["NUL", "UTF-8", "version"],
)
def test_a_strange_entry_of_an_archive_is_refused(tmp_path, old, new, problem) -> None:
    path = zipped(tmp_path / "a.zip", *PAIR, "images/train/\u00e9.png")
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new))
    assert problem in refused(path)


@pytest.mark.parametrize(("offset", "value"), [(8, 1), (10, 99)], ids=["encrypted", "unknown compression"])
def test_a_member_that_cannot_be_unpacked_is_rejected(tmp_path, offset, value) -> None:
    path = zipped(tmp_path / "a.zip", *PAIR)
    data = bytearray(path.read_bytes())
    struct.pack_into("<H", data, data.index(b"PK\x01\x02") + offset, value)
    struct.pack_into("<H", data, offset - 2, value)
    path.write_bytes(data)
    (pair,) = find(path).pairs
    with pytest.raises(BadInputError) as caught:
        read(pair.image)
    assert caught.value.reason == "bad_zip_member"
    assert pair.image in caught.value.detail


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_member_is_rejected_whatever_its_compression(tmp_path, method) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a.png", os.urandom(500))
    data = bytearray(path.read_bytes())
    data[60:200] = bytes(140)
    path.write_bytes(data)
    with pytest.raises(BadInputError) as caught:
        read(f"{path}!/a.png")
    assert caught.value.reason == "bad_zip_member"


def test_a_bomb_is_not_inflated(tmp_path) -> None:
    size = 32 << 20
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("a.png", bytes(size))
    with pytest.raises(BadInputError) as caught:
        read(f"{tmp_path}/a.zip!/a.png", size - 1)
    assert caught.value.reason == "too_many_pixels"
    assert read(f"{tmp_path}/a.zip!/a.png", size) == bytes(64)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(tmp_path) -> None:
    path = zipped(tmp_path / "a.zip", *PAIR)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(PAIR[0], PAIR[0])
    assert keys(find(path)) == ["train/a"]
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(PAIR[0], "another")
    assert refused(path).startswith(f"{path} holds {PAIR[0]} twice, with different bytes")


def test_a_folder_for_each_drive_is_told_the_patterns_that_read_all(tmp_path) -> None:
    names = [f"drive_{n}/{kind}/{split}/a.png" for n in range(3) for kind in ("images", "masks") for split in SPLITS]
    text = refused(lay(tmp_path, *names))
    assert f"has 3 folders with images and masks ({tmp_path}/drive_0, {tmp_path}/drive_1, " in text
    assert text.endswith("--images='{key}/images/{split}/{key}.png' --masks='{key}/masks/{split}/{key}.png'")
    assert len(find(tmp_path, *text.replace("'", "").split()[-2:]).pairs) == 6


def test_a_part_of_a_layout_is_told_the_whole_and_not_to_take_masks_for_images(tmp_path) -> None:
    names = [f"training/{kind}/{n}.png" for kind in ("image_2", "semantic", "semantic_rgb") for n in range(3)]
    assert refused(lay(tmp_path / "kitti", *names) / "training").endswith(f": give --input={tmp_path}/kitti")
    lay(tmp_path / "own", *(f"{kind}/{n}.png" for kind in ("semantic", "semantic_rgb") for n in range(3)))
    assert "These names fit" not in refused(tmp_path / "own")


def test_a_list_among_the_files_is_told(tmp_path) -> None:
    text = refused(lay(tmp_path, "x/a.jpg", "y/b.png", "pairs.csv"))
    assert f"If pairs.csv lists the pairs, give --input={tmp_path}/pairs.csv" in text


def test_a_photo_of_another_drive_is_not_taken_for_a_missing_mask(tmp_path) -> None:
    lay(tmp_path, *PAIR, "images/d1/1.jpg", "images/d2/1.jpg", "masks/d2/1.png")
    patterns = ("--images=images/{key}.{type}", "--masks=masks/{key}.png", SHARES, "--pool_splits")
    (bad,) = find(tmp_path, *patterns).rejected
    assert bad.detail == "images/d1/1.jpg has no mask"


@pytest.mark.parametrize("given", ["", "set/images", "set/masks", "set/images/train"])
def test_a_folder_too_high_or_too_low_is_told_the_right_one(tmp_path, given) -> None:
    lay(tmp_path / "set", *PAIR)
    assert refused(tmp_path / given).endswith(f": give --input={tmp_path}/set")


@pytest.mark.parametrize("given", ["leftImg8bit", "gtFine", "leftImg8bit/train"])
def test_a_part_of_cityscapes_is_told_the_whole(tree, given) -> None:
    assert refused(tree / given).endswith(f": give --input={tree}")


def test_commas_in_names_work_and_one_that_separates_is_told(tmp_path) -> None:
    folder = lay(tmp_path / "a,b", "images/train/x,y.png", "masks/train/x,y.png")
    assert keys(find(folder)) == ["train/x,y"]
    text = refused(f"{folder},{tmp_path}")
    rule = "a path with commas is read only if it exists and is the only one"
    assert text == f"{tmp_path}/a does not exist; commas in --input={folder},{tmp_path} separate its paths ({rule})"


@pytest.mark.parametrize("stem", ["new\nline", "-x", "a [1]", "*?", "#%20", "\x01\t", "x" * 251])
def test_odd_names_are_found_and_read(tmp_path, stem) -> None:
    (pair,) = find(lay(tmp_path, f"images/train/{stem}.png", f"masks/train/{stem}.png")).pairs
    assert pair.key == f"train/{stem}"
    assert read(pair.mask) == f"masks/train/{stem}.png".encode()


def test_a_file_in_the_folders_of_two_splits_is_refused_by_name(tmp_path: Path) -> None:
    names = [f"train/{kind}/{folder}/x.png" for kind in ("images", "masks") for folder in ("val", "berlin")]
    lay(tmp_path, *names)
    with pytest.raises(BuildError, match=r"^train/images/val/x\.png is in the folders of two splits, train/ and val/"):
        find_pairs(recipe_of(), str(tmp_path))


def test_a_file_in_two_folders_of_one_split_is_of_that_split(tmp_path: Path) -> None:
    lay(tmp_path, *(f"train/{kind}/Training/x.png" for kind in ("images", "masks")))
    (pair,) = find_pairs(recipe_of(), str(tmp_path)).pairs
    assert (pair.key, pair.split) == ("train/x", "train")

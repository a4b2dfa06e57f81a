"""A draft for regions can be read back, whatever the labels and the path of the input are."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from beam_pipelines.inputs.label_files import load_labels
from beam_pipelines.label_drafts.contents import Contents, Group
from beam_pipelines.label_drafts.names import yaml_of_names
from beam_pipelines.pixels.polygons import NEVER_COUNTED

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
LABELS = st.lists(TEXT.filter(lambda name: name != NEVER_COUNTED), min_size=1, max_size=5, unique=True)


def contents_of(names: list[str]) -> Contents:
    one = Group(1, (0,))
    return Contents({"regions": one}, names=dict.fromkeys(names, one), regions=dict.fromkeys(names, 1))


@settings(max_examples=30)
@example(names=["\x7f", "\x85", "\u2028", "\ufeff", "#: ", "no", "", "\\", '"'], path="a\nb\x85c\u2028d\x7f")
@given(LABELS, st.text(max_size=20))
def test_any_label_and_any_path_can_be_read_back(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], path: str
) -> None:
    draft = tmp_path_factory.getbasetemp() / "names.yaml"
    draft.write_text(yaml_of_names(contents_of(names), f"Drafted from {path}."), encoding="utf-8", newline="")
    assert sorted(row.name for row in load_labels(str(draft)).labels) == sorted(names)


def test_a_single_one_is_no_plural() -> None:
    assert yaml_of_names(contents_of(["car", "\x7f"]), "Drafted from\nhere.").splitlines() == [
        "# Drafted from?here.",
        "# Pixels outside all regions are ignored; a class named background would have them.",
        "classes:",
        '  - {name: "car", ids: [0]}  # 1 region in 1 of 1 image',
        '  - {name: "\\U0000007f", ids: [1]}  # 1 region in 1 of 1 image',
    ]

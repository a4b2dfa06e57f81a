"""Trees of Cityscapes to measure with: as many pairs as are wanted, of a few pictures."""

from __future__ import annotations

from pathlib import Path

from beam_pipelines.inputs import sample_scenes
from tests.benchmarks.references import cityscapes_pairs

PROJECT = Path(__file__).parent.parent.parent
REAL_SCENES = PROJECT.parent / "shared" / "data" / "cityscapes_sample"


def default_source(scratch: Path) -> Path:
    """The real sample beside the project, or else a few drawn scenes."""
    if REAL_SCENES.is_dir():
        return REAL_SCENES
    for key in sample_scenes.list_scenes({"train": 8}):
        for name, data in sample_scenes.draw_scene_files(key).items():
            (scratch / "drawn" / name).parent.mkdir(parents=True, exist_ok=True)
            (scratch / "drawn" / name).write_bytes(data)
    return scratch / "drawn"


def link_pairs(source: Path, tree: Path, count: int) -> Path:
    """`tree`, with `count` pairs that are links to the files of `source`."""
    pairs = cityscapes_pairs(source, "train")
    if not pairs:
        raise SystemExit(f"{source}: there is no leftImg8bit/train/*/*_leftImg8bit.png")
    for index in range(count):
        image, mask = pairs[index % len(pairs)]
        for kind, file, end in (("leftImg8bit", image, "leftImg8bit"), ("gtFine", mask, "gtFine_labelIds")):
            link = tree / kind / "train" / "city" / f"city_{index:06d}_000019_{end}.png"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file.resolve(strict=True))
    return tree

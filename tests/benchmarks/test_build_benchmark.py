"""What the benchmark of the build counts, computes and compares."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from beam_pipelines.contract.labels import BUILTIN_TABLES
from beam_pipelines.inputs import sample_scenes
from tests.benchmarks import build, rates, usage
from tests.benchmarks.checkouts import check_code, check_same, environment
from tests.benchmarks.rates import Part, Run
from tests.benchmarks.references import cityscapes_pairs
from tests.benchmarks.sources import PROJECT, link_pairs

BURN = "import time\nwhile time.process_time() < {seconds}: pass\n"
PARENT = (
    "import os, subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', sys.argv[1]], stdout=subprocess.PIPE)\n"
    "print('started', flush=True)\n"
)


def drawn(folder: Path, sizes: list[tuple[int, int]]) -> Path:
    """A Cityscapes tree with a drawn scene of each size."""
    for key, size in zip(sample_scenes.list_scenes({"train": len(sizes)}), sizes, strict=True):
        for name, data in sample_scenes.draw_scene_files(key, *size).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize(
    "end",
    ["child.wait()", "child.stdout.read(); os._exit(0)", "time.sleep(0.4); os._exit(0)"],
    ids=["waited for", "left as a zombie", "left alone"],
)
def test_cpu_of_children_is_counted(end: str) -> None:
    """The child uses 0.8 s."""
    command = [sys.executable, "-c", PARENT + end, BURN.format(seconds=0.8)]
    used = usage.run(command, PROJECT, environment(PROJECT))
    assert used.printed == "started\n"
    assert 0.8 < used.cpu_seconds < 1.6
    assert used.memory["peak_rss_mb"] > 1


def test_cpu_that_is_not_counted_is_told() -> None:
    usage.check_counted(counted=3.0, seen=3.1)
    with pytest.raises(SystemExit, match=r"3\.5 s of CPU, of which 3\.0 s are counted"):
        usage.check_counted(counted=3.0, seen=3.5)


def test_a_command_that_fails_ends_the_benchmark() -> None:
    with pytest.raises(SystemExit, match=r"exited with 3:\nwhy"):
        usage.run([sys.executable, "-c", "print('why'); raise SystemExit(3)"], PROJECT, environment(PROJECT))


def test_the_fixed_part_is_what_a_line_has_for_no_pairs() -> None:
    assert rates.fixed_cpu_seconds(512, 7 + 512 * 0.03, 4, 7 + 4 * 0.03) == pytest.approx(7)


def test_rates_are_of_seconds_cpu_seconds_and_cores() -> None:
    found = rates.rates([Part(10, 16), Part(20, 8), Part(40, 32)], pairs=80, cores=2)
    assert found["img_per_s"] == 4
    assert found["img_per_cpu_s"] == 5
    assert found["img_per_vcpu_s"] == 2
    assert found["cpu_seconds"] == [16, 8, 32]


def test_images_cost_what_all_cores_cost_while_they_are_made() -> None:
    run = Run(whole=Part(50, 60), pipeline=Part(40, 45))
    assert rates.cost([run], pairs=100, cores=2, price=0.36) == {
        "whole_per_1000_images": 0.1,  # 100 vCPU seconds of 0.0001 dollars for 100 images
        "pipeline_per_1000_images": 0.08,
        "fixed_per_command": 0.002,
    }


def test_ratios_are_of_the_same_round() -> None:
    ours, others = [Part(10, 10), Part(20, 40), Part(10, 20)], [Part(20, 10), Part(20, 20), Part(5, 30)]
    assert rates.ratios(ours, others) == {
        "img_per_s": {"median": 1, "rounds": [2, 1, 0.5]},
        "img_per_cpu_s": {"median": 1, "rounds": [1, 0.5, 1.5]},
    }


def test_what_is_lost_in_noise_is_no_number() -> None:
    ours, others = [Part(10, -0.1), Part(10, 10)], [Part(10, 10), Part(10, -0.1)]
    assert rates.rates(ours, pairs=8, cores=2)["img_per_cpu_s"] is None
    assert rates.ratios(ours, ours)["img_per_cpu_s"] == {"median": None, "rounds": [None, 1]}
    assert rates.ratios(ours, others)["img_per_cpu_s"] == {"median": None, "rounds": [None, None]}


@pytest.mark.parametrize("others", [{"a": "1", "b": "0"}, {"a": "1"}, {"a": "1", "b": "2", "c": "3"}])
def test_shards_that_differ_are_told(others: dict[str, str]) -> None:
    ours = {"a": "1", "b": "2"}
    check_same(ours, dict(ours), Path("earlier"))
    with pytest.raises(SystemExit, match=r"^earlier builds other bytes: 1 of [23] shards differ, [bc] with"):
        check_same(ours, others, Path("earlier"))
    with pytest.raises(SystemExit, match="no shards"):
        check_same({}, {}, Path("earlier"))


def test_a_checkout_runs_its_own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    with pytest.raises(SystemExit, match=r"name a checkout of this project"):
        check_code(tmp_path)
    (tmp_path / "beam_pipelines").mkdir()
    (tmp_path / "beam_pipelines" / "build.py").touch()
    with pytest.raises(SystemExit, match=r"its commands would run"):  # a namespace gives way to a package
        check_code(tmp_path)
    (tmp_path / "beam_pipelines" / "__init__.py").touch()
    check_code(tmp_path)


def test_options_that_are_not_known_go_to_the_command() -> None:
    given = ["--direct_running_mode=multi_processing", "--direct_num_workers=2", "--image=1"]
    assert build.parse(["--pairs=8", *given]).beam_args == given


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--pairs=4"], "it takes 5 pairs and a round to measure"),
        (["--pair=4"], "error: unknown option --pair; did you mean --pairs?"),
        (["--price=-3"], "error: argument --price: '-3' is not a number above 0"),
        (["--against=checkout"], "need each other"),
        (["--checkout=earlier"], "need each other"),
        (["--image_size=native"], "bare has no --image_size native; choose HEIGHTxWIDTH"),
        (["--against=tfds"], "needs tensorflow-datasets, which is not installed: pip install -e '.[dev]'"),
        (
            ["--against=notebook", "--image_encoding=float16"],
            "notebook has no float16; choose --image_encoding float32",
        ),
    ],
)
def test_options_that_can_not_be_measured_are_refused(
    given: list[str], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)  # as if it were not installed
    with pytest.raises(SystemExit):
        build.parse(given)
    assert told in capsys.readouterr().err


@pytest.mark.slow
def test_a_build_is_measured(tmp_path: Path) -> None:
    source = drawn(tmp_path / "drawn", [(32, 64), (48, 64)])  # two sizes: no transform_fn, which takes seconds
    tree = link_pairs(source, tmp_path / "tree", 6)
    built = build.build(
        PROJECT, tree, tmp_path, build.parse(["--against=checkout", "--checkout=.", "--image_size=native"])
    )
    assert built.megabytes > 6 * 32 * 64 * 12 / 1e6
    assert built.shards
    assert 0 < built.pipeline_seconds < built.usage.seconds
    assert built.usage.cpu_seconds > 0.5
    assert not (tmp_path / "built").exists()


@pytest.mark.slow
def test_the_bare_loop_is_measured(tmp_path: Path) -> None:
    tree = link_pairs(drawn(tmp_path / "drawn", [(32, 64)]), tmp_path / "tree", 6)
    run = build.measure_reference(tree, tmp_path, build.parse(["--image_size=16x32"]))
    assert 0 < run.pipeline.cpu_seconds < run.whole.cpu_seconds
    assert 0 < run.fixed.seconds < run.whole.seconds


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["float32", "png"])
@pytest.mark.filterwarnings("ignore:label\\(\\) is deprecated:DeprecationWarning")  # of protobuf, by the library
def test_tensorflow_datasets_stores_the_same_pictures(encoding: str, tmp_path: Path) -> None:
    """Of 4x4 pixels an image has the mean, and a mask one."""
    pytest.importorskip("tensorflow_datasets", reason="tensorflow-datasets is not installed")
    from tests.benchmarks.references import tfds

    source = drawn(tmp_path / "drawn", [(32, 64), (32, 64)])
    stored = tfds.prepare(source, (8, 16), encoding, tmp_path).as_dataset(split="train")
    found: dict[str, Any] = {each["filename"].numpy().decode(): each for each in stored}
    for image_path, mask_path in cityscapes_pairs(source):
        example = found.pop(image_path.name)
        image = np.asarray(Image.open(image_path), np.float64).reshape(8, 4, 16, 4, 3).mean((1, 3))
        scale = 255 if encoding == "float32" else 1
        deviation = np.abs(example["image"].numpy() * float(scale) - image).max()
        assert deviation <= 1.01  # Pillow rounds rows, and then columns
        mask = BUILTIN_TABLES["cityscapes19"]().train_id_of[np.asarray(Image.open(mask_path))]
        block = mask.reshape(8, 4, 16, 4).transpose(0, 2, 1, 3).reshape(8, 16, 16)
        assert (block == example["segmentation"].numpy()).any(-1).all()
    assert not found

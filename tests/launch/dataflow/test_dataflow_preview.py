"""What a dry run says of a job: its graph, files, workers and cost."""

from __future__ import annotations

import importlib.metadata
import re
import sys
import tarfile
from pathlib import Path

import pytest
from apache_beam.portability import common_urns
from apache_beam.runners.dataflow.internal import apiclient

from beam_pipelines.contract import png
from beam_pipelines.files import storage
from beam_pipelines.options import parse_build
from launch.dataflow import preview
from launch.dataflow.cost import predict
from launch.dataflow.options import parse
from launch.dataflow.workers import Workers
from tests.support.builds import build
from tests.support.dataflow_runs import IMAGE, PATHS, RECIPE, STEPS, WHERE, launch, offline
from tests.support.fake_dataflow import FakeDataflow


def test_the_graph_has_the_steps_of_the_build(job: apiclient.Job) -> None:
    assert [name for name, _ in preview.steps(job.proto_pipeline)] == STEPS
    assert all(len(what) > 20 for _, what in preview.steps(job.proto_pipeline))
    leaves = {transform.unique_name for transform in job.proto_pipeline.components.transforms.values()}
    assert {"StageShards/Stage", "FinishShards/Normalize", "PublishDataset/Publish"} <= leaves


def test_the_graph_stays_small_and_shuffles_no_pixel(job: apiclient.Job) -> None:
    """A graph over 10 MB is refused by Dataflow; this one holds no path and does not grow with the data."""
    assert job.proto_pipeline.ByteSize() < 200_000
    shuffles = {
        transform.unique_name
        for transform in job.proto_pipeline.components.transforms.values()
        if transform.spec.urn == common_urns.primitives.GROUP_BY_KEY.urn
    }
    assert {name.partition("/")[0] for name in shuffles} == {
        "ListShards",
        "CombineMoments",
        "CombineClassPixels",
        "CombineStatistics",
        "FindDuplicates",
        "PublishDataset",
    }


def test_the_environment_is_beams_container_with_the_package(job: apiclient.Job) -> None:
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    beam = importlib.metadata.version("apache-beam")
    expected = f"gcr.io/cloud-dataflow/v1beta3/beam_python{version}_sdk:{beam}"
    assert preview.container_image(job.proto_pipeline) == expected
    sent = dict(preview.staged_files(job))
    assert set(sent) == {"workflow.tar.gz", "submission_environment_dependencies.txt"}
    with tarfile.open(sent["workflow.tar.gz"]) as package:
        names = {name.partition("/")[2] for name in package.getnames()}
    assert {"setup.py", "beam_pipelines/graph.py", "beam_pipelines/contract/record.py", "PKG-INFO"} <= names
    assert not {name for name in names if name.startswith("tests")}
    assert job.proto.labels == {"app": "street-scenes", "team": "vision"}


def test_an_image_of_ones_own_gets_nothing_sent_but_the_graph() -> None:
    job = offline(IMAGE)
    assert preview.container_image(job.proto_pipeline) == "p/r/scenes:1"
    assert [name for name, _ in preview.staged_files(job)] == ["submission_environment_dependencies.txt"]


def test_without_normalization_there_is_no_second_pass() -> None:
    names = {
        transform.unique_name
        for transform in offline("--image_encoding=png").proto_pipeline.components.transforms.values()
    }
    assert "FinishShards/AsWritten" in names
    assert "FinishShards/Normalize" not in names


def test_the_cost_is_that_of_the_start_and_of_the_work() -> None:
    """By hand: 57,600 images at 16 img/s are an hour of one vCPU; so much for 4, 40, and where only 8 have a shard."""
    one, ten = predict(57_600, 1000, Workers(machine_type="e2-standard-4", vcpus=4, limit=10), 16.0)
    assert (one.workers, one.minutes, one.vcpu_hours) == pytest.approx((1, 4 + 15, 4 * 19 / 60))
    assert (ten.workers, ten.minutes, ten.vcpu_hours) == pytest.approx((10, 4 + 1.5, 40 * 5.5 / 60))
    _, idle = predict(57_600, 8, Workers(machine_type="e2-standard-4", vcpus=4, limit=10), 16.0)
    assert (idle.minutes, idle.vcpu_hours) == pytest.approx((4 + 7.5, 40 * 11.5 / 60))
    (single,) = predict(57_600, 8, Workers(machine_type="e2-standard-4", vcpus=4, limit=1), 16.0)
    assert single.workers == 1


def test_a_dry_run_says_that_the_data_set_is_there(
    service: FakeDataflow, source: Path, bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, options = f"{bucket}/out/there", ("--input=gs://street/in", *RECIPE)
    assert build(*options, f"--output={output}") == 0
    assert launch(service, output, IMAGE, "--dry_run") == 0
    assert f"{output} is already complete: without --dry_run no job would start" in capsys.readouterr().out
    assert launch(service, output, IMAGE, "--plan", "--images_per_second=40") == 0
    assert "1,000 images cost about 0.0005 USD of workers" in capsys.readouterr().out
    assert launch(service, output, IMAGE, "--dry_run", "--seed=3") == 1
    assert "holds a finished data set of another recipe (seed: 0, not 3)" in capsys.readouterr().err
    assert launch(service, output, IMAGE, "--dry_run", "--seed=3", "--overwrite") == 0
    assert not service.asked


def test_a_dry_run_says_all_and_does_nothing(
    service: FakeDataflow, source: Path, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = f"{bucket}/out/dry"
    assert launch(service, output, "--dry_run", "--max_num_workers=5", "--vcpu_hour=1@2030-02") == 0
    printed = capsys.readouterr().out
    assert f"dry run: nothing is submitted, and nothing is written to {output}" in printed
    assert "found 17 pairs in gs://street/in" in printed
    command = printed[printed.index("python -m beam_pipelines.build") :].partition("\ngraph: ")[0]
    arguments = re.findall(r"^    (\S+)", command, re.MULTILINE)
    settings = parse([*WHERE, PATHS[0], f"--output={output}", *RECIPE, "--max_num_workers=5"])
    assert set(settings.command) <= set(arguments)
    assert parse_build(arguments).recipe == settings.build.recipe
    for step in STEPS:
        assert f"\n  {step} " in printed
    assert re.search(r"\n  workflow\.tar\.gz  \d+ kB\n", printed)
    imgread = "imgread, " if png.decoder() == "imgread" else ""
    assert (
        f"imports besides Beam: PIL, google_crc32c, imagecodecs, {imgread}msgspec, pycocotools, xxhash, and " in printed
    )
    assert "tensorflow" not in printed
    assert "prediction for 17 images, 6 shards" in printed
    assert re.search(r"1 │ +4 │ +4\.0 │ +0\.27 │ +0\.27 ", printed)
    rate = "1,000 images cost about 0.0116 USD of workers, without their start (24 images/s per vCPU, 1 USD per vCPU"
    assert rate in printed
    assert "more than 2 workers stay idle" in printed
    assert "1 USD per vCPU-hour with memory as of 2030-02" in printed
    assert not service.asked
    assert storage.sizes(output) == {}

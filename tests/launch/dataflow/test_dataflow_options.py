"""The command line of launch.dataflow."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from beam_pipelines.options import parse_build
from launch.dataflow import options
from launch.dataflow.cost import Price
from launch.dataflow.options import parse
from launch.dataflow.workers import Workers
from tests.support.builds import PROJECT
from tests.support.dataflow_runs import IMAGE, PATHS, WHERE


def refusal_of(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    with pytest.raises(SystemExit) as caught:
        parse([*WHERE, *PATHS, *options])
    assert caught.value.code == 2
    (message,) = capsys.readouterr().err.splitlines()
    return message.partition("error: ")[2].removesuffix(" (see --help)")


def test_the_defaults() -> None:
    settings = parse([*WHERE, *PATHS])
    staging = "gs://street/out/mine/_build/dataflow"
    assert settings.command == (
        "--input=gs://street/in",
        "--output=gs://street/out/mine",
        "--runner=DataflowRunner",
        "--project=street-scenes",
        "--region=us-central1",
        settings.command[5],
        "--label=app=street-scenes",
        f"--temp_location={staging}/temp",
        f"--staging_location={staging}/staging",
        "--worker_machine_type=e2-standard-4",
        "--num_workers=1",
        "--max_num_workers=10",
        "--autoscaling_algorithm=THROUGHPUT_BASED",
        "--disk_size_gb=30",
        "--number_of_worker_harness_threads=2",
        f"--setup_file={PROJECT / 'setup.py'}",
    )
    assert re.fullmatch(r"--job_name=scenes-mine-[0-9a-f]{8}", settings.command[5])
    assert (settings.project, settings.region) == ("street-scenes", "us-central1")
    assert settings.workers == Workers(machine_type="e2-standard-4", vcpus=4, limit=10)
    assert settings.price == Price(usd=0.0702, date="2025-06")
    assert (settings.images_per_second, settings.dry_run, settings.wait) == (24.0, False, True)


def test_the_command_is_one_of_the_build_with_the_same_recipe() -> None:
    options = ("--labels=camvid11", "--image_size=64x128", "--max_rejects=5%", "--seed=3", "--no_use_public_ips")
    settings = parse([*WHERE, *PATHS, *options, "--max_num_workers=3", "--job_labels=team=vision,cost=1"])
    assert parse_build(settings.command) == settings.build
    assert settings.build.recipe == parse_build([*PATHS, *options[:4]]).recipe
    assert settings.build.max_rejects == 0.05
    assert {"--no_use_public_ips", "--max_num_workers=3"} <= set(settings.build.beam_args)
    labels = [argument for argument in settings.command if argument.startswith("--label=")]
    assert labels == ["--label=app=street-scenes", "--label=team=vision", "--label=cost=1"]


def test_spaces_after_commas_are_none_of_a_path() -> None:
    build = parse([*WHERE, "--input=gs://street/a.zip, gs://street/b.zip", PATHS[1]]).build
    assert build.recipe.input == "gs://street/a.zip,gs://street/b.zip"


@pytest.mark.parametrize("folder", ["my scenes", "a b/c d"])
def test_folders_are_those_that_the_build_takes(folder: str) -> None:
    settings = parse([*WHERE, PATHS[0], f"--output=gs://street/{folder}"])
    assert settings.build.output == parse_build([PATHS[0], f"--output=gs://street/{folder}"]).output
    assert f"--temp_location=gs://street/{folder}/_build/dataflow/temp" in settings.build.beam_args


def test_each_folder_has_a_job_name_of_its_own() -> None:
    def name(output: str) -> str:
        (found,) = [a for a in parse([*WHERE, PATHS[0], f"--output={output}"]).command if a.startswith("--job_name=")]
        return found.removeprefix("--job_name=")

    outputs = ["gs://street/a", "gs://street/b/a", "gs://other/a", "gs://street/A_Very.Long/" + "Name_" * 30]
    names = [name(output) for output in outputs]
    assert len(set(names)) == len(outputs)
    assert names[0] == name("gs://street/a/")
    assert all(re.fullmatch(r"[a-z][-a-z0-9]{1,61}[a-z0-9]", found) for found in names)


@pytest.mark.parametrize(
    ("options", "machine", "vcpus"),
    [
        ([], "e2-standard-4", 4),
        (["--max_image_pixels=200000000"], "e2-standard-4", 4),
        (["--max_image_pixels=220000000"], "e2-highmem-4", 8 // 2),
        (["--max_image_pixels=400000000", "--number_of_worker_harness_threads=1"], "e2-standard-4", 4),
        (["--worker_machine_type=n2-highcpu-16", "--max_image_pixels=900000000"], "n2-highcpu-16", 16),
        (["--machine_type=custom-6-20480"], "custom-6-20480", 6),
        (["--machine_type=n2-custom-8-16384-ext"], "n2-custom-8-16384-ext", 8),
        (["--machine_type=n2d-standard-32"], "n2d-standard-32", 32),
    ],
)
def test_the_machine_has_the_memory_that_its_threads_need(options: list[str], machine: str, vcpus: int) -> None:
    workers = parse([*WHERE, *PATHS, *options]).workers
    assert (workers.machine_type, workers.vcpus) == (machine, vcpus)


def test_with_an_image_nothing_is_installed_unless_asked() -> None:
    assert IMAGE in parse([*WHERE, *PATHS, IMAGE]).command
    assert not [a for a in parse([*WHERE, *PATHS, IMAGE]).command if a.startswith("--setup_file")]
    both = parse([*WHERE, *PATHS, IMAGE, f"--setup_file={PROJECT / 'setup.py'}"]).command
    assert {IMAGE, f"--setup_file={PROJECT / 'setup.py'}"} <= set(both)


# Options -> what the message must name: the option or the value, and the cure.
REFUSED = {
    "--project=123": ("--project", "'123'", "street-scenes-123"),
    "--region=us-central1-a": ("--region", "'us-central1-a'", "us-central1"),
    "--output=out": ("--output", "'out'", "gs://BUCKET/FOLDER"),
    "--output=gs://bucket": ("--output", "'gs://bucket'", "gs://BUCKET/FOLDER"),
    "--input=in": ("--input", "gs://BUCKET/FOLDER"),
    "--input=gs://": ("--input", "'gs://'", "gs://BUCKET/..."),
    "--sdk_container_image=": ("--sdk_container_image", "''", "PROJECT/REPOSITORY/NAME:TAG"),
    "--runner=DirectRunner": ("--runner", "python -m beam_pipelines.build"),
    "--temp_location=/tmp": ("--temp_location", "'/tmp'", "gs://BUCKET/FOLDER"),
    "--job_name=My_Job": ("--job_name", "'My_Job'", "a-z, 0-9 and -"),
    "--job_labels=Team=a": ("--job_labels", "'Team=a'", "KEY=VALUE"),
    "--job_labels=team": ("--job_labels", "'team'", "KEY=VALUE"),
    "--machine_type=e2-medium": ("--machine_type", "'e2-medium'", "e2-standard-4"),
    "--num_workers=0": ("--num_workers", "'0'"),
    "--num_workers=11": ("--num_workers=11", "--max_num_workers=10"),
    "--setup_file=other.py": ("--setup_file", "'other.py'", "setup.py or pyproject.toml"),
    "--vcpu_hour=0.07": ("--vcpu_hour", "'0.07'", "0.0702@2025-06"),
    "--vcpu_hour=x@2025-06": ("--vcpu_hour", "'x'"),
    "--max_image_pixels=500000000": ("500,000,000", "8.7 GB", "--worker_machine_type"),
    "--shards=train=1 --shard_size_mb=2": ("--shards", "--shard_size_mb"),
}


@pytest.mark.parametrize("options", REFUSED)
def test_options_that_do_not_fit_are_refused_with_the_reason(capsys: pytest.CaptureFixture[str], options: str) -> None:
    message = refusal_of(capsys, *options.split())
    assert not [part for part in REFUSED[options] if part not in message], message


@pytest.mark.parametrize("missing", ["--project", "--region", "--input", "--output"])
def test_what_is_needed_is_asked_for(capsys: pytest.CaptureFixture[str], missing: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse([option for option in (*WHERE, *PATHS) if not option.startswith(missing)])
    assert f"the following arguments are required: {missing}" in capsys.readouterr().err


def test_without_a_setup_file_the_command_says_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(options, "SETUP_FILE", tmp_path / "setup.py")
    assert refusal_of(capsys) == (
        f"{tmp_path / 'setup.py'} does not exist, so there is no package to send to the workers: run this command from "
        "a checkout of the project, or set --setup_file, or --sdk_container_image with an image that has the package"
    )
    assert parse([*WHERE, *PATHS, IMAGE])

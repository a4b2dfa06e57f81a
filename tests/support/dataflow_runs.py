"""launch.dataflow as the tests run it."""

from __future__ import annotations

import time

from apache_beam.runners.dataflow.internal import apiclient

from launch.dataflow import preview
from launch.dataflow.__main__ import main
from launch.dataflow.options import parse
from tests.support.fake_dataflow import FakeDataflow

WHERE = ("--project=street-scenes", "--region=us-central1")
PATHS = ("--input=gs://street/in", "--output=gs://street/out/mine")
RECIPE = ("--labels=camvid11", "--image_size=native", "--shards=train=4,val=2")
IMAGE = "--sdk_container_image=p/r/scenes:1"  # nothing has to be packed
STEPS = [
    "ListShards",
    "StageShards",
    "CombineMoments",
    "CombineClassPixels",
    "CombineStatistics",
    "FinishShards",
    "FindDuplicates",
    "PublishDataset",
]


def offline(*options: str) -> apiclient.Job:
    """Beam's own dry run of a job in buckets that nobody has: nothing is asked of anybody."""
    paths = ("--input=gs://nobody/in", "--output=gs://nobody/out")
    return preview.dry_run(parse([*WHERE, *paths, *options]).build, time.time())


def launch(service: FakeDataflow, output: str, *options: str) -> int:
    where = (*WHERE, "--input=gs://street/in", f"--output={output}", *RECIPE)
    return main([*where, "--no_auth", f"--dataflow_endpoint={service.url}", *options])

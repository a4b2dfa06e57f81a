from __future__ import annotations

import json
import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, SetupOptions, StandardOptions

from beam_pipelines.contract.labels import BUILTIN_TABLES
from beam_pipelines.contract.moments import Moments
from beam_pipelines.contract.picture_rules import Rules
from beam_pipelines.inputs.sources import find_pairs
from beam_pipelines.options import DEFAULT_OUTPUT, parse_build, parse_verify, pipeline_options
from beam_pipelines.options.command import command_of
from beam_pipelines.recipe import SCENES, BorrowedMoments, Recipe
from tests.support.builds import make_flat, run_module

DEFAULT = parse_build([]).recipe


def build(*options: str) -> Recipe:
    return parse_build(options).recipe


def refusal_of(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """The line that a user sees."""
    with pytest.raises(SystemExit) as caught:
        parse_build(options)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert line.endswith(" (see --help)")
    return line.removeprefix("error: ").removesuffix(" (see --help)")


def test_without_options_the_embedded_scenes_are_built() -> None:
    settings = parse_build([])
    assert settings.output == DEFAULT_OUTPUT
    assert (settings.max_rejects, settings.overwrite, settings.plan_only, settings.verbose) == (
        0.01,
        False,
        False,
        False,
    )
    assert settings.beam_args == ("--runner=DirectRunner",)
    assert settings.recipe == Recipe(
        input=SCENES,
        annotations=None,
        split_names=(),
        split_fractions={},
        group_by=None,
        labels=BUILTIN_TABLES["cityscapes19"](),
        image_size=(256, 512),
        resize="area",
        aspect="reject",
        image_encoding="float32",
        mask_encoding="uint8",
        shard_size_mb=128.0,
        shards={},
        seed=0,
        max_pairs=None,
        max_image_pixels=100_000_000,
    )


@pytest.mark.parametrize(
    ("option", "field", "value"),
    [
        ("--annotations=gtCoarse", "annotations", "gtCoarse"),
        ("--splits=train,val", "split_names", ("train", "val")),
        ("--splits= train , val ", "split_names", ("train", "val")),
        ("--splits=train=0.8,val=0.2", "split_fractions", {"train": 0.8, "val": 0.2}),
        ("--splits=train=75%, val=25%", "split_fractions", {"train": 0.75, "val": 0.25}),
        ("--splits=a=0.1,b=0.2,c=0.7", "split_fractions", {"a": 0.1, "b": 0.2, "c": 0.7}),
        ("--labels=camvid11", "labels", BUILTIN_TABLES["camvid11"]()),
        ("--image_size=512x1024", "image_size", (512, 1024)),
        ("--image_size=native", "image_size", None),
        ("--image_size=1x65535", "image_size", (1, 65535)),
        ("--resize=bicubic", "resize", "bicubic"),
        ("--aspect=pad", "aspect", "pad"),
        ("--image_encoding=float16", "image_encoding", "float16"),
        ("--image_encoding=png", "mask_encoding", "png"),
        ("--mask_encoding=png", "mask_encoding", "png"),
        ("--shard_size_mb=0.5", "shard_size_mb", 0.5),
        ("--shards=train=32,val=8", "shards", {"train": 32, "val": 8}),
        ("--seed=-7", "seed", -7),
        ("--max_pairs=10", "max_pairs", 10),
        ("--max_image_pixels=5", "max_image_pixels", 5),
        ("--orient=image", "rules", Rules(orient="image")),
        ("--alpha=black", "rules", Rules(alpha="black")),
        ("--deep=scale", "rules", Rules(deep="scale")),
    ],
)
def test_an_option_is_read_into_the_recipe(option: str, field: str, value: object) -> None:
    assert getattr(build(option), field) == value


def test_raw_masks_may_stand_beside_png_images() -> None:
    recipe = build("--image_encoding=png", "--mask_encoding=uint8")
    assert (recipe.image_format, recipe.mask_format) == ("png", "raw_uint8")


@pytest.mark.parametrize(
    ("encoding", "image_format", "staged_format", "normalized"),
    [
        ("float32", "raw_float32", "raw_uint8", True),
        ("float16", "raw_float16", "raw_uint8", True),
        ("uint8", "raw_uint8", "raw_uint8", False),
        ("png", "png", "png", False),
    ],
)
def test_the_encoding_decides_the_formats(
    encoding: str, image_format: str, staged_format: str, normalized: bool
) -> None:
    recipe = build(f"--image_encoding={encoding}")
    assert (recipe.image_format, recipe.staged_format, recipe.normalized) == (image_format, staged_format, normalized)


def test_group_by_is_read_with_shares() -> None:
    assert build("--splits=train=0.5,val=0.5", "--group_by=^([a-z]+)_").group_by == "^([a-z]+)_"


def test_settings_are_read() -> None:
    settings = parse_build(
        ["--input=in", "--output=gs://bucket/out/", "--max_rejects=5%", "--overwrite", "--plan", "--verbose"]
    )
    assert (settings.recipe.input, settings.output, settings.max_rejects) == ("in", "gs://bucket/out", 0.05)
    assert (settings.overwrite, settings.plan_only, settings.verbose) == (True, True, True)


def test_settings_of_verify_are_read() -> None:
    settings = parse_verify(["gs://bucket/out/", "--verbose", "--runner=PrismRunner", "--direct_num_workers=2"])
    assert (settings.dataset, settings.verbose) == ("gs://bucket/out", True)
    assert settings.beam_args == ("--runner=PrismRunner", "--direct_num_workers=2")


def test_verify_asks_for_a_data_set(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse_verify([])
    assert "the following arguments are required: DATASET" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--input=in"], "--input needs --output: the folder, local or gs://, for the data set"),
        (
            ["--shards=train=1", "--shard_size_mb=2"],
            "--shards and --shard_size_mb both set the number of shards: give only one of them",
        ),
        (
            ["--group_by=x"],
            "--group_by needs shares in --splits, such as --splits=train=0.8,val=0.2",
        ),
        (
            ["--group_by=x", "--splits=train,val"],
            "--group_by needs shares in --splits, such as --splits=train=0.8,val=0.2",
        ),
        (["--splits=train=0.8,val=0.3"], "--splits=train=0.8,val=0.3: the shares add up to 1.1, not to 1"),
        (["--splits=train=0.8,val"], "--splits=train=0.8,val: expected NAME=NUMBER,NAME=NUMBER"),
        (["--splits==1"], "--splits==1: expected NAME=NUMBER,NAME=NUMBER"),
        (["--splits=train=2,val=-1"], "'2' is not a share: give 0.01 or 1%"),
        (["--shards=train"], "argument --shards: --shards=train: expected NAME=NUMBER,NAME=NUMBER"),
        (["--shards="], "argument --shards: --shards=: expected NAME=NUMBER,NAME=NUMBER"),
        (["--shards=train=0"], "argument --shards: '0' is not a number above 0"),
        (["--shards=train=1.5"], "argument --shards: '1.5' is not a number above 0"),
        (["--shard_size_mb=0"], "argument --shard_size_mb: '0' is not a number above 0"),
        (["--shard_size_mb=nan"], "argument --shard_size_mb: 'nan' is not a number above 0"),
        (["--max_pairs=-1"], "argument --max_pairs: '-1' is not a number above 0"),
        (["--seed=x"], "argument --seed: 'x' is not a whole number, like 0 or 7"),
        (["--seed=1.5"], "argument --seed: '1.5' is not a whole number, like 0 or 7"),
        (["--max_image_pixels=many"], "argument --max_image_pixels: 'many' is not a number above 0"),
        (["--image_size=256"], "argument --image_size: '256' is not HEIGHTxWIDTH, like 256x512, nor native"),
        (
            ["--image_size=0x5"],
            "argument --image_size: '0x5': height and width must be from 1 to 65,535, as in 256x512",
        ),
        (
            ["--image_size=9x65536"],
            "argument --image_size: '9x65536': height and width must be from 1 to 65,535, as in 256x512",
        ),
        (
            ["--image_size=32768x32768"],
            "--image_size=32768x32768 has 1,073,741,824 pixels, and the most are 100,000,000: give a smaller size, or, "
            "if the workers have the memory, a larger --max_image_pixels",
        ),
        (["--image_size=-1x5"], "argument --image_size: '-1x5' is not HEIGHTxWIDTH, like 256x512, nor native"),
        (["--max_rejects=1.5"], "argument --max_rejects: '1.5' is not a share: give 0.01 or 1%"),
        (["--max_rejects=101%"], "argument --max_rejects: '101%' is not a share: give 0.01 or 1%"),
        (["--max_rejects=nan"], "argument --max_rejects: 'nan' is not a share: give 0.01 or 1%"),
        (["--max_rejects=few"], "argument --max_rejects: 'few' is not a share: give 0.01 or 1%"),
        *(
            (
                [f"--input={path}", "--output=out"],
                f"--input={path}: {path.partition(':')[0]}: is not supported; give a local path, or gs://BUCKET/FOLDER",
            )
            for path in ("s3://b/x", "https://host/x.zip", "az://x", "hdfs://x")
        ),
        *(
            ([f"--output={path}"], f"--output={path} is not a path in a bucket, gs://BUCKET/FOLDER: {rule}")
            for path, rule in {
                "gs:/b/x": "it names no bucket",
                "gs:///x": "it names no bucket",
                "gs://My_Bucket/x": "a bucket's name has only a-z, 0-9, -, _ and ., and 'My_Bucket' has 'B' and 'M'",
            }.items()
        ),
        (["--input=in", "--output=file:///x/y"], "--output=file:///x/y: give the plain path, /x/y"),
        (["--input=a,", "--output=out"], "--input: a path is empty; commas separate the paths of --input"),
        (
            ["--output=gs://b/a\nc"],
            r"--output: the path 'gs://b/a\nc' has a line break, which no object of a bucket may have",
        ),
        (["--input=a,\udcff", "--output=out"], "--input: the path '\\udcff' is not UTF-8: rename it"),
        (
            ["--labels=voc"],
            f"--labels=voc is neither a file nor one of {', '.join(BUILTIN_TABLES)}",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused_with_the_reason(
    capsys: pytest.CaptureFixture[str], options: list[str], problem: str
) -> None:
    assert refusal_of(capsys, *options) == problem


def test_a_pattern_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    refusal = refusal_of(capsys, "--group_by=(", "--splits=a=1")
    assert refusal.startswith("argument --group_by: '(' is not a regular expression: missing )")


@pytest.mark.parametrize("option", ["--annotations", "--resize", "--aspect", "--image_encoding", "--mask_encoding"])
def test_a_choice_that_is_none_is_refused(capsys: pytest.CaptureFixture[str], option: str) -> None:
    assert f"argument {option}: invalid choice: 'other'" in refusal_of(capsys, f"{option}=other")


def test_a_label_file_with_a_mistake_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("classes: []")
    assert refusal_of(capsys, f"--labels={path}") == f"--labels={path}: label table 'mine': it has no classes"


OTHER: dict[str, Any] = {
    "input": "elsewhere",
    "annotations": "gtFine",
    "split_names": ("train",),
    "split_fractions": {"train": 1.0},
    "group_by": "x",
    "labels": BUILTIN_TABLES["cityscapes7"](),
    "image_size": (256, 513),
    "resize": "bilinear",
    "aspect": "crop",
    "image_encoding": "float16",
    "mask_encoding": "png",
    "shard_size_mb": 64.0,
    "shards": {"train": 1},
    "seed": 1,
    "max_pairs": 1,
    "max_image_pixels": 1,
    "masks_are": "ids",
    "layout": "idd",
    "images": "{key}.png",
    "masks": "{key}_mask.png",
    "pool_splits": True,
    "moments_split": "val",
    "moments_from": BorrowedMoments(dataset="x", fingerprint="y", split="train", moments=Moments.zero()),
    "orient": "apply",
    "alpha": "white",
    "deep": "scale",
}


def test_the_fingerprint_tests_know_every_field_of_the_recipe() -> None:
    assert OTHER.keys() == Recipe.__dataclass_fields__.keys()


def test_every_field_of_the_recipe_changes_the_fingerprint() -> None:
    prints = [replace(DEFAULT, **{field: value}).fingerprint for field, value in OTHER.items()]
    assert len({DEFAULT.fingerprint, *prints}) == 1 + len(OTHER)


@pytest.mark.parametrize("field", ["masks_are", "orient", "alpha", "deep"])
def test_options_that_came_later_leave_the_fingerprint_as_it_was(field: str) -> None:
    assert field not in DEFAULT.to_json()
    assert replace(DEFAULT, **{field: OTHER[field]}).to_json()[field] == OTHER[field]


def test_one_color_of_the_label_table_changes_the_fingerprint() -> None:
    first, *others = DEFAULT.labels.labels
    recolored = replace(DEFAULT.labels, labels=(replace(first, color=(1, 2, 3)), *others))
    assert replace(DEFAULT, labels=recolored).fingerprint != DEFAULT.fingerprint


@pytest.mark.parametrize(
    "option", ["--output=x", "--max_rejects=50%", "--runner=FlinkRunner", "--verbose", "--overwrite", "--region=x"]
)
def test_a_setting_does_not_change_the_fingerprint(option: str) -> None:
    assert build(option).fingerprint == DEFAULT.fingerprint


TEMPLATES = {name: OTHER[name] for name in ("images", "masks")}
TOGETHER = {"split_names": (), "layout": None, "annotations": None, "moments_from": None}
COMMANDS = [
    *({name: value} for name, value in OTHER.items() if name not in ("moments_from", *TEMPLATES)),
    TEMPLATES,
    OTHER | TOGETHER,
]


@pytest.mark.parametrize("options", COMMANDS)
def test_the_command_of_a_recipe_gives_that_recipe(options: dict[str, Any]) -> None:
    """As `verify` prints it; --group_by and --pool_splits need shares."""
    needs_shares = options.keys() & {"group_by", "pool_splits"}
    shares = {"split_fractions": {"train": 0.5, "val": 0.5}} if needs_shares else {}
    shard_size = {"shard_size_mb": 128.0} if options.get("shards") else {}
    recipe = replace(DEFAULT, **options | shares | shard_size)
    command = command_of(json.loads(json.dumps(recipe.to_json())), "my out", "--overwrite")
    assert command is not None
    settings = parse_build(shlex.split(command)[3:])
    assert (settings.recipe, settings.output, settings.overwrite) == (recipe, "my out", True)


def test_the_encoding_of_masks_beside_png_images_is_in_the_command() -> None:
    recipe = build("--image_encoding=png", "--mask_encoding=uint8")
    assert parse_build(shlex.split(command_of(recipe.to_json(), "out") or "")[3:]).recipe == recipe


def test_a_recipe_with_a_table_of_the_users_own_has_no_command() -> None:
    assert command_of(DEFAULT.to_json() | {"labels": "mine"}, "out") is None


def test_a_default_given_or_left_out_has_one_fingerprint() -> None:
    given = build("--image_size=256x512", "--labels=cityscapes19", "--shard_size_mb=128", "--mask_encoding=uint8")
    assert given.fingerprint == DEFAULT.fingerprint


def test_the_order_of_shares_does_not_change_the_fingerprint() -> None:
    one, other = build("--splits=train=0.8,val=0.2"), build("--splits=val=0.2,train=0.8")
    assert one.fingerprint == other.fingerprint


def test_the_order_of_shares_does_not_change_who_goes_where(tmp_path: Path) -> None:
    folder = make_flat(tmp_path, train=20, val=0)
    for kind in ("images", "masks"):
        for path in (folder / kind / "train").iterdir():
            path.rename(folder / kind / path.name)
    recipes = [build(f"--splits={shares}") for shares in ("train=0.5,val=0.5", "val=0.5,train=0.5")]
    one, other = (find_pairs(recipe, str(folder)).pairs for recipe in recipes)
    assert one == other
    assert {pair.split for pair in one} == {"train", "val"}


def test_the_fingerprint_of_the_defaults_is_frozen() -> None:
    """Where it changes, every half-finished build starts anew: change the recipe's fields knowingly."""
    assert DEFAULT.fingerprint == "6da1f0981c14bdafeecb81b6bd49cfc416661416466082a3b65bdf4d8bfef1d0"


def beam_options(*options: str) -> PipelineOptions:
    return pipeline_options(parse_build(options).beam_args)


CORES = len(os.sched_getaffinity(0))


def test_the_local_runner_gets_a_thread_for_each_core() -> None:
    options = beam_options()
    assert options.view_as(StandardOptions).runner == "DirectRunner"
    assert options.view_as(DirectOptions).direct_num_workers == CORES
    assert options.view_as(DirectOptions).direct_running_mode == "multi_threading"


@pytest.mark.parametrize("given", [["--direct_num_workers=7"], ["--direct_num_workers", "7"]])
def test_the_users_number_of_workers_holds(given: list[str]) -> None:
    direct = beam_options(*given).view_as(DirectOptions)
    assert (direct.direct_num_workers, direct.direct_running_mode) == (7, "multi_threading")


def test_the_users_running_mode_holds() -> None:
    direct = beam_options("--direct_running_mode=in_memory").view_as(DirectOptions)
    assert (direct.direct_num_workers, direct.direct_running_mode) == (CORES, "in_memory")


def test_a_remote_runner_gets_no_local_defaults() -> None:
    options = beam_options("--runner=DataflowRunner", "--output=gs://bucket/out", "--project=p", "--region=r")
    given = options.get_all_options(drop_default=True)
    assert given["runner"] == "DataflowRunner"
    assert (given["project"], given["region"]) == ("p", "r")
    assert not any(name.startswith("direct_") for name in given)


def test_dataflow_gets_no_pickled_main_unless_asked() -> None:
    given = ("--runner=dataflow", "--output=gs://bucket/out")
    assert beam_options(*given).view_as(SetupOptions).save_main_session is False
    assert beam_options(*given, "--save_main_session").view_as(SetupOptions).save_main_session is True
    assert beam_options().view_as(SetupOptions).save_main_session is None


@pytest.mark.parametrize("name", ["DirectRunner", "direct", "apache_beam.runners.direct.direct_runner.DirectRunner"])
def test_a_runner_has_its_defaults_by_every_name_that_beam_takes(name: str) -> None:
    assert beam_options(f"--runner={name}").view_as(DirectOptions).direct_running_mode == "multi_threading"
    assert beam_options("--runner", name).view_as(DirectOptions).direct_running_mode == "multi_threading"


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--input=in", "--output=gs://bucket/out"], "--input: Dataflow's workers can't reach in: "),
        (
            ["--input=gs://bucket/a.zip,b.zip", "--output=gs://bucket/out"],
            "--input: Dataflow's workers can't reach b",
        ),
        (
            ["--input=gs://bucket/in", "--output=/data/out"],
            "--output: Dataflow's workers can't reach /data/out: ",
        ),
        ([], "--output: Dataflow's workers can't reach out/scenes: "),
    ],
)
@pytest.mark.parametrize("runner", ["DataflowRunner", "dataflow", "apache_beam.runners.dataflow.DataflowRunner"])
def test_on_dataflow_a_path_on_this_machine_is_refused(
    capsys: pytest.CaptureFixture[str], runner: str, options: list[str], found: str
) -> None:
    refusal = refusal_of(capsys, f"--runner={runner}", *options)
    assert refusal.startswith(found)
    assert refusal.endswith(": give a path in a bucket, gs://BUCKET/FOLDER")
    assert parse_build(["--runner=FlinkRunner", *options])


def test_on_dataflow_verify_refuses_a_data_set_on_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse_verify(["out", "--runner=DataflowRunner"])
    assert "DATASET: Dataflow's workers can't reach out: " in capsys.readouterr().err
    assert parse_verify(["gs://bucket/out", "--runner=DataflowRunner"]).dataset == "gs://bucket/out"


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ("--imput=in", "; did you mean --input?"),
        ("--image-size=256x512", "; did you mean --image_size?"),
        ("--direct_num_worker=2", "; did you mean --direct_num_workers?"),
        ("--qqqqqq", "; --help lists all options"),
    ],
)
def test_an_unknown_option_ends_the_program_with_the_nearest_known_one(
    option: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        beam_options(option)
    assert caught.value.code == 2
    assert capsys.readouterr().err == f"error: unknown option {option.split('=')[0]}{hint}\n"


def test_a_word_that_belongs_to_no_option_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        beam_options("folder")
    assert caught.value.code == 2
    message = "error: 'folder' is neither an option nor the value of one; --help lists all options\n"
    assert capsys.readouterr().err == message


def test_a_wrong_value_of_an_option_of_beam_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        beam_options("--direct_num_workers=many")
    assert caught.value.code == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert message.startswith("error: argument --direct_num_workers: invalid int value: 'many'")


@pytest.mark.parametrize("module", ["build", "verify"])
def test_an_unknown_option_ends_the_command_with_2_and_one_line(module: str, tmp_path: Path) -> None:
    done = run_module(module, tmp_path if module == "verify" else f"--output={tmp_path}", "--qqqqqq")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: unknown option --qqqqqq; --help lists all options\n"


def test_an_unknown_runner_ends_the_program_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        beam_options("--runner=NoRunner")
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    start = (
        "error: --runner=NoRunner is no runner: give DirectRunner, PrismRunner, FlinkRunner, DataflowRunner, another"
    )
    assert line.startswith(start)
    assert "SparkRunner" in line
    assert line.endswith("or the full name of a class of one")


@pytest.mark.parametrize("name", ["no.such.Runner", "beam_pipelines.runners.Fast"])
def test_a_class_that_is_no_runner_ends_the_program_with_2(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        beam_options(f"--runner={name}")
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: --runner={name} can't be loaded: ")


def test_an_option_of_build_is_unknown_to_verify_and_not_its_own_hint() -> None:
    with pytest.raises(SystemExit, match=r"^unknown option --seed(?!.*did you mean --seed\?)"):
        pipeline_options(parse_verify(["out", "--seed=3"]).beam_args)


def test_an_abbreviated_option_is_unknown() -> None:
    with pytest.raises(SystemExit, match=r"^unknown option --image_enc; did you mean --image_encoding\?$"):
        beam_options("--image_enc=png")


@pytest.mark.parametrize("option", ["--prism_location", "--flink_job_server_jar"])
def test_a_runner_that_is_not_there_is_a_sentence(option: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stopped:
        pipeline_options([f"{option}=.runners/nope"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == (
        f"error: {option}=.runners/nope: the file does not exist; "
        "`make runners` downloads or compiles it, if that is possible\n"
    )

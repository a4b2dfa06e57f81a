from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from trainer import config, models, sections, settings
from trainer.config import TrainConfig, parse_train
from trainer.data.augment import AUGMENTATIONS
from trainer.evaluation.options import parse_evaluate
from trainer.inference.request import parse_export, parse_predict
from trainer.objective import optimizers
from trainer.objective.terms import TERMS

# What an option needs beside it to have an effect.
BESIDE = {"mix": ("--dataset=data,other",), "hard_pixel_ramp_steps": ("--hard_pixel_fraction=0.25",)}
# Options that leave no effect to others of the table.
CHOICES = {"mix", "global_batch", "steps", "model", "no-augment", "optimizer", "val_split", "freeze_backbone"}

# Option -> text, and the value that alone must change, to what. Output changes several.
OPTIONS: dict[str, tuple[str | None, Any]] = {
    "dataset": ("elsewhere", "elsewhere"),
    "train_split": ("trainval", "trainval"),
    "mix": ("3,1", [0.75, 0.25]),
    "sampling": ("class_uniform", "class_uniform"),
    "val_split": ("", ""),
    "checkpoint_steps": ("7", 7),
    "evaluate_epochs": ("3", 3),
    "patience": ("5", 5),
    "log_steps": ("5", 5),
    "track": ("mlflow", "mlflow"),
    "no_report": (None, True),
    "no_export": (None, True),
    "verbose": (None, True),
    "model": ("u2net", "u2net"),
    "backbone": ("xception41", "xception41"),
    "output_stride": ("8", 8),
    "decoder": ("light", "light"),
    "backbone_weights": ("imagenet", "imagenet"),
    "depthwise_relu": ("false", False),
    "dropout": ("0", 0.0),
    "batch_norm_momentum": ("0.9997", 0.9997),
    "width": ("0.25", 0.25),
    "initial_model": ("out/before", "out/before"),
    "epochs": ("12", 12),
    "steps": ("90000", 90000),
    "batch_per_replica": ("2", 2),
    "global_batch": ("16", 16),
    "accumulate": ("8", 8),
    "crop_size": ("512x1024", [512, 1024]),
    "no-augment": (None, False),
    "random_scale": ("0.75,1.25", [0.75, 1.25]),
    "color": ("0", 0.0),
    "flip": ("0.25", 0.25),
    "seed": ("4", 4),
    "class_weights": ("enet", "enet"),
    "label_smoothing": ("0.1", 0.1),
    "hard_pixel_fraction": ("0.25", 0.25),
    "hard_pixel_ramp_steps": ("1000", 1000),
    "lovasz": ("0.5", 0.5),
    "dice": ("0.25", 0.25),
    "optimizer": ("adamw", "adamw"),
    "learning_rate": ("1e-3", 1e-3),
    "schedule": ("cosine", "cosine"),
    "warmup": ("0.05", 0.05),
    "momentum": ("0.95", 0.95),
    "backbone_learning_rate_multiplier": ("0.1", 0.1),
    "head_learning_rate_multiplier": ("10", 10.0),
    "freeze_backbone": (None, True),
    "freeze_batch_norm": (None, True),
    "weight_decay": ("0", 0.0),
    "clip_norm": ("1", 1.0),
    "ema": ("0.999", 0.999),
    "strategy": ("mirrored", "mirrored"),
    "logical_devices": ("2", 2),
    "precision": ("bfloat16", "bfloat16"),
    "xla": (None, True),
    "deterministic": (None, True),
    "steps_per_call": ("10", 10),
    "shuffle_mib": ("64", 64.0),
    "cache_mib": ("0", 0.0),
    "on_corrupt": ("skip", "skip"),
}
ALIASES = {"scale": "random_scale", "top_k": "hard_pixel_fraction", "top_k_ramp_steps": "hard_pixel_ramp_steps"}

# A run may be resumed with others of these: they say where and how fast it computes, what it keeps and shows, and when
# that is enough, not what comes out. Of the batches the product is compared, of the data set the fingerprint, when both
# are known.
FREE = {
    *("dataset", "val_split", "checkpoint_steps", "evaluate_epochs", "log_steps", "verbose", "batch_per_replica"),
    *("global_batch", "accumulate", "strategy", "logical_devices", "xla", "deterministic", "steps_per_call"),
    *("cache_mib", "on_corrupt", "patience", "no_report", "no_export", "track"),
}

VERTEX = {
    "AIP_MODEL_DIR": "gs://bucket/job/model/",
    "AIP_CHECKPOINT_DIR": "gs://bucket/job/checkpoints/",
    "AIP_TENSORBOARD_LOG_DIR": "gs://bucket/job/logs/",
}


def parse(*arguments: str, **environment: str) -> TrainConfig:
    return parse_train(["--dataset=data", *arguments], environment)


def given(option: str) -> str:
    text = OPTIONS[option][0]
    return f"--{option}" if text is None else f"--{option}={text}"


def places(found: TrainConfig) -> tuple[str, str, str, str]:
    return found.places.output, found.places.checkpoints, found.places.logs, found.places.export


def refusal_of(capsys: pytest.CaptureFixture[str], *arguments: str, **environment: str) -> str:
    with pytest.raises(SystemExit) as refused:
        parse_train(arguments, environment)
    assert refused.value.code == 2
    return capsys.readouterr().err.partition("error: ")[2].strip()


def help_of(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Option -> what --help says of it."""
    monkeypatch.setenv("COLUMNS", "250")
    with pytest.raises(SystemExit) as asked:
        parse_train(["--help"], {})
    assert asked.value.code == 0
    lines = re.sub(r"\n {20,}", "  ", capsys.readouterr().out.partition("\nplaces:")[2]).splitlines()
    parts = [line.strip().partition("  ") for line in lines if line.startswith("  --")]
    return {name: text.strip() for names, _, text in parts for name in re.findall(r"--([\w-]+)", names)}


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_changes_its_value_and_no_other(option: str):
    beside = BESIDE.get(option, ())
    before, after = parse(*beside).to_json(), parse(*beside, given(option)).to_json()
    changed = {name: value for name, value in after.items() if value != before[name]}
    assert changed == {option.removeprefix("no-"): OPTIONS[option][1]}


@pytest.mark.parametrize(("alias", "option"), ALIASES.items())
def test_earlier_names_are_accepted_and_not_shown(
    alias: str, option: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    text = OPTIONS[option][0]
    beside = BESIDE.get(option, ())
    assert parse(*beside, f"--{alias}={text}").to_json() == parse(*beside, f"--{option}={text}").to_json()
    assert alias not in help_of(capsys, monkeypatch)


@pytest.mark.parametrize("option", OPTIONS)
def test_a_run_has_another_identity_where_an_option_decides_its_weights(option: str):
    beside = BESIDE.get(option, ())
    assert (parse(*beside, given(option)).identity == parse(*beside).identity) == (option in FREE)


def test_the_identity_does_not_depend_on_where_results_go():
    assert parse("--output=elsewhere", **VERTEX).identity == parse().identity


def test_the_identity_survives_json():
    identity = parse(*map(given, OPTIONS.keys() - CHOICES)).identity
    assert json.loads(json.dumps(identity)) == identity


def test_the_config_is_kept_as_plain_values():
    found = parse("--crop_size=64x128", "--output=out/here").to_json()
    assert found == json.loads(json.dumps(found))
    derived = {
        "other_datasets",
        "checkpoints",
        "logs",
        "export",
        "cluster",
        "reports_metric",
    }  # of --output, and of Vertex AI
    assert found.keys() == {name.removeprefix("no-") for name in OPTIONS} | {"output"} | derived
    assert (found["crop_size"], found["random_scale"], found["output"]) == ([64, 128], [0.5, 2.0], "out/here")


def test_what_is_not_given_is_left_to_the_data_and_the_model():
    found = parse()
    assert (found.data.crop_size, found.batches.steps, found.batches.global_batch) == (None, None, None)
    assert (found.optimizer.clip_norm, found.optimizer.ema, found.machine.steps_per_call) == (None, None, None)
    assert (found.model.initial_model, found.model.given()) == (None, {})
    assert parse("--width=0.5", "--depthwise_relu=false").model.given() == {"width": 0.5, "depthwise_relu": False}
    assert (found.data.train_split, found.data.val_split, found.cluster.workers) == ("train", "val", 1)
    assert (found.data.augment, found.reports_metric) == (True, False)


def test_data_sets_and_splits_are_lists(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    found = parse("--dataset=a,gs://b/c/dataset.json", "--train_split=train,extra", "--mix=7,3")
    assert (found.places.dataset, found.places.datasets) == ("a", ("a", "gs://b/c"))
    trained = {"train_split": ("train", "extra")}
    assert found.reads == {"a": trained | {"val_split": ("val",)}, "gs://b/c": trained}
    assert found.data.mix == (0.7, 0.3)
    assert parse("--train_split=train,val", "--val_split=").reads == {"data": {"train_split": ("train", "val")}}
    both = "is also trained on, so its scores would say nothing; set --val_split='' for none, or another split"
    assert refusal_of(capsys, "--dataset=a", "--train_split=train,val") == f"argument --val_split: val {both}"
    assert "--mix: 2 shares for 3 data sets in --dataset" in refusal_of(capsys, "--dataset=a,b,c", "--mix=1,2")
    assert "--mix: --dataset has one data set, so that it has all" in refusal_of(capsys, "--dataset=a", "--mix=1")
    assert "'a,a' names a data set twice; --mix sets the share" in refusal_of(capsys, "--dataset=a,a")
    (tmp_path / "with,comma").mkdir()
    assert parse(f"--dataset={tmp_path}/with,comma").places.datasets == (f"{tmp_path}/with,comma",)
    assert "expected a name, or several different names" in refusal_of(
        capsys, "--dataset=a", "--train_split=train,train"
    )
    assert "0: expected above 0" in refusal_of(capsys, "--dataset=a,b", "--mix=1,0")


# --- what a run is compared by when it is resumed


def test_changes_are_named_with_both_values():
    before, now = parse().identity, parse("--seed=4", "--random_scale=1,2").identity
    assert config.changes(before, now) == ["random_scale was [0.5, 2.0] and is [1.0, 2.0]", "seed was 0 and is 4"]
    assert config.changes(before, before) == []


def test_an_option_that_an_earlier_run_did_not_have_had_the_effect_of_its_default():
    earlier = {name: value for name, value in parse().identity.items() if name not in ("flip", "random_scale")}
    assert config.changes(earlier, parse().identity) == []
    assert config.changes(earlier, parse("--flip=0").identity) == ["flip was 0.5 and is 0.0"]


@pytest.mark.parametrize(
    ("before", "now", "hosts", "expected"),
    [
        ("--epochs=7", "--epochs=6", 1, True),
        ("--epochs=7", "--epochs=7", 1, False),
        ("--steps=21", "--steps=20", 1, True),
        ("--steps=21", "--steps=21", 1, False),
        ("--epochs=7", "--steps=20", 1, True),
        ("--epochs=7", "--steps=21", 1, False),
        ("--steps=21", "--epochs=6", 1, True),
        ("--steps=21", "--epochs=7", 1, False),
        ("--steps=21", "--epochs=6", 2, False),  # if one of the hosts has more than half of the images
        ("--steps=21", "--epochs=5", 2, False),
        ("--steps=21", "--epochs=4", 2, True),
    ],
)  # fmt: skip
def test_a_run_of_fewer_updates_is_shorter(before: str, now: str, hosts: int, expected: bool):
    """With 10 images in batches of 4: 3 updates in an epoch of one host, and 3 to 5 of two."""
    earlier, later = (parse_train(["--dataset=d", length], {}).identity for length in (before, now))
    about = {"images": 10, "global_batch": 4, "hosts": hosts}
    assert config.is_shorter(later, earlier | about) == expected
    assert not config.is_shorter(later, earlier | about | {"images": None}) or before[:5] == now[:5]


def test_the_identity_is_read_back():
    found = parse("--seed=4")
    assert config.read_identity(json.dumps({"identity": found.identity, "config": {}})) == found.identity
    for text in ("", "[]", "{}", '{"identity": 3}', "\0\0"):
        with pytest.raises(ValueError, match="not the configuration of a training run"):
            config.read_identity(text)


def test_help_tells_of_every_option(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    told = help_of(capsys, monkeypatch)
    assert told.keys() == OPTIONS.keys() | {"augment", "output", "recipe", "print_config"}
    assert not [name for name, text in told.items() if not text.partition("(default")[0]]


def test_sections_tables_and_help_agree(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Each option is declared once: at a field of a section, or in a row of a table that a field holds."""
    types = get_type_hints(TrainConfig)
    assert [types[name] for name in sections.SECTIONS] == [section for section, _ in sections.SECTIONS.values()]
    declared = [each.option for section, _ in sections.SECTIONS.values() for each in settings.declared_by(section)]
    names = [option.name for option in declared]
    assert len(set(names)) == len(names)
    rows = [*(row.option for row in AUGMENTATIONS), *models.MODEL_OPTIONS, *(term.option for term in TERMS)]
    assert {option.name for option in rows} <= set(names)
    told = help_of(capsys, monkeypatch)
    assert {name for name in told if not name.startswith("no-")} == {
        *names,
        "dataset",
        "output",
        "recipe",
        "print_config",
    }
    for option in declared:
        assert told[option.name].startswith(option.help)
        assert settings.flat(getattr(parse(), section_of(option.name)))[option.name] == option.default


def section_of(option: str) -> str:
    (found,) = (
        name
        for name, (section, _) in sections.SECTIONS.items()
        if option in {each.option.name for each in settings.declared_by(section)}
    )
    return found


# --- names that other modules have, too


def test_optimizers_are_those_that_can_be_built():
    for name in sections.OPTIMIZERS:
        optimizers.build_optimizer(name=name, learning_rate=0.1)
    with pytest.raises(ValueError, match=f"'lamb': expected {' or '.join(sections.OPTIMIZERS)}"):
        optimizers.build_optimizer(name="lamb", learning_rate=0.1)


def test_precisions_are_those_that_training_knows():
    from trainer.training import run

    assert set(sections.PRECISIONS) == set(run._POLICIES)


def test_models_and_their_options_are_those_of_the_builders(capsys: pytest.CaptureFixture[str]):
    for name in models.MODELS:
        assert parse(f"--model={name}").model.name == name
    assert f"choose from {', '.join(models.MODELS)}" in refusal_of(capsys, "--model=unet").replace("'", "")
    known = {option for name in models.MODELS for option in models.option_defaults(name)}
    offered = {option.name for option in models.MODEL_OPTIONS}
    for name, row in models.MODELS.items():
        assert set(row.options) == offered & set(models.option_defaults(name))
    assert offered <= known
    assert known - offered == {"normalization", "sync_batch_norm"}  # of the data set, and of the number of replicas


# --- the data set and the places


@pytest.mark.parametrize(
    ("given", "folder"),
    [
        ("gs://bucket/scenes", "gs://bucket/scenes"),
        ("gs://bucket/scenes/", "gs://bucket/scenes"),
        ("gs://bucket/scenes/dataset.json", "gs://bucket/scenes"),
        ("gs://bucket/scenes/my-dataset.json", "gs://bucket/scenes/my-dataset.json"),
        ("out/scenes/dataset.json", "out/scenes"),
        ("dataset.json", "."),
        ("./dataset.json", "."),
        ("/dataset.json", "/"),
        ("/", "/"),
    ],
)
def test_the_data_set_is_a_folder_or_its_manifest(given: str, folder: str):
    assert parse_train([], {"AIP_TRAINING_DATA_URI": given}).places.dataset == folder
    assert parse_train([f"--dataset={given}"], {}).places.dataset == folder


def test_an_argument_wins_over_the_data_set_of_vertex():
    assert parse("--dataset=mine", AIP_TRAINING_DATA_URI="gs://bucket/theirs").places.dataset == "mine"


def test_a_home_folder_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HOME", str(tmp_path))
    found = parse_train(["--dataset=~/scenes/", "--output=~/run"], {})
    assert (found.places.dataset, found.places.logs) == (f"{tmp_path}/scenes", f"{tmp_path}/run/logs")
    assert parse_train(["--dataset=d", "--initial_model=~/a [1]"], {}).model.initial_model == f"{tmp_path}/a [1]"
    evaluated = parse_evaluate(["--model=~/run", "--dataset=~/scenes/dataset.json", "--output=~/report"])
    assert (evaluated.model, evaluated.dataset, evaluated.output) == tuple(
        f"{tmp_path}/{name}" for name in ("run", "scenes", "report")
    )
    predicted = parse_predict(["--model=~/run", "--images=~/*.png", "--output=~/made"])
    assert (predicted.model, predicted.images, predicted.output) == tuple(
        f"{tmp_path}/{name}" for name in ("run", "*.png", "made")
    )
    exported = parse_export(["--model=gs://a/~", "--output=~"])
    assert (exported.model, exported.output) == ("gs://a/~", str(tmp_path))


def test_a_data_set_is_needed(capsys: pytest.CaptureFixture[str]):
    for environment in ({}, {"AIP_TRAINING_DATA_URI": ""}):
        assert refusal_of(capsys, **environment).startswith("--dataset is required: ")


def test_results_go_below_out_run():
    assert places(parse()) == ("out/run", "out/run/checkpoints", "out/run/logs", "out/run/export")


def test_results_go_where_vertex_says():
    base = "gs://bucket/job"
    assert places(parse(**VERTEX)) == (base, f"{base}/checkpoints", f"{base}/logs", f"{base}/model")


def test_each_trial_of_a_search_has_its_own_results():
    trial = {name: path.replace("/job/", "/job/7/") for name, path in VERTEX.items()}
    found = parse(**trial, CLOUD_ML_TRIAL_ID="7")
    assert places(found) == tuple(f"gs://bucket/job/7{end}" for end in ("", "/checkpoints", "/logs", "/model"))
    assert found.reports_metric


def test_an_output_that_is_given_wins_over_vertex():
    expected = ("gs://mine/run", "gs://mine/run/checkpoints", "gs://mine/run/logs", "gs://mine/run/export")
    assert places(parse("--output=gs://mine/run/", **VERTEX)) == expected


@pytest.mark.parametrize("name", VERTEX)
def test_one_folder_of_vertex_tells_the_base_of_the_others(name: str):
    found = parse(**{name: VERTEX[name]})
    assert found.places.output == "gs://bucket/job"
    own = {"AIP_MODEL_DIR": "export", "AIP_CHECKPOINT_DIR": "checkpoints", "AIP_TENSORBOARD_LOG_DIR": "logs"}
    for variable, field in own.items():
        end = "model" if variable == name == "AIP_MODEL_DIR" else field
        assert getattr(found.places, field) == f"gs://bucket/job/{end}"


def test_empty_variables_are_none():
    assert places(parse(**dict.fromkeys(VERTEX, ""), TF_CONFIG="")) == places(parse())


def test_the_environment_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch):
    for name, value in VERTEX.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AIP_TRAINING_DATA_URI", "gs://bucket/scenes/")
    found = parse_train([])
    assert (found.places.dataset, found.places.export) == ("gs://bucket/scenes", "gs://bucket/job/model")


def test_the_cluster_is_in_the_config():
    cluster = {"cluster": {"chief": ["a:1"], "worker": ["b:1", "c:1"]}, "task": {"type": "worker", "index": 1}}
    found = parse(TF_CONFIG=json.dumps(cluster))
    assert (found.cluster.workers, found.cluster.kind, found.cluster.index) == (3, "worker", 1)
    assert found.to_json()["cluster"]["hosts"] == cluster["cluster"]


def test_a_cluster_that_makes_no_sense_is_a_wrong_argument(capsys: pytest.CaptureFixture[str]):
    assert refusal_of(capsys, "--dataset=data", TF_CONFIG="{").startswith("TF_CONFIG is not a description of a cluster")


# --- refusals


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("--output=", "expected a file or folder"),
        ("--epochs=0", "0 is less than 1"),
        ("--seed=-1", "-1 is less than 0"),
        ("--steps=1e4", "'1e4' is not a whole number"),
        ("--learning_rate=fast", "'fast' is not a number"),
        ("--learning_rate=-1", "-1: expected at least 0"),
        ("--learning_rate=nan", "nan: expected at least 0"),
        ("--lovasz=inf", "inf: expected at least 0"),
        ("--width=0", "0: expected above 0"),
        ("--clip_norm=0", "0: expected above 0"),
        ("--backbone_learning_rate_multiplier=0", "0: expected above 0"),
        ("--head_learning_rate_multiplier=-1", "-1: expected above 0"),
        ("--hard_pixel_fraction=0", "0: expected above 0 and at most 1"),
        ("--hard_pixel_fraction=1.01", "1.01: expected above 0 and at most 1"),
        ("--label_smoothing=1", "1: expected at least 0 and below 1"),
        ("--label_smoothing=-0.1", "-0.1: expected at least 0 and below 1"),
        ("--ema=1", "1: expected above 0 and below 1"),
        ("--ema=0", "0: expected above 0 and below 1"),
        ("--warmup=1", "1: expected at least 0 and below 1"),
        ("--momentum=1", "1: expected at least 0 and below 1"),
        ("--dropout=1", "1: expected at least 0 and below 1"),
        ("--batch_norm_momentum=1.5", "1.5: expected at least 0 and below 1"),
        ("--crop_size=512", "'512' is not HEIGHTxWIDTH, such as 256x512"),
        ("--crop_size=0x512", "'0x512' is not HEIGHTxWIDTH, such as 256x512"),
        ("--crop_size=-1x512", "'-1x512' is not HEIGHTxWIDTH, such as 256x512"),
        ("--random_scale=2", "'2' is not LEAST,MOST, such as 0.5,2"),
        ("--random_scale=2,0.5", "'2,0.5': expected 0 < LEAST <= MOST"),
        ("--random_scale=0,1", "'0,1': expected 0 < LEAST <= MOST"),
        ("--random_scale=1,inf", "'1,inf': expected 0 < LEAST <= MOST"),
    ],
)
def test_a_value_out_of_its_range_is_refused(argument: str, expected: str, capsys: pytest.CaptureFixture[str]):
    name = argument.partition("=")[0]
    assert refusal_of(capsys, "--dataset=data", argument) == f"argument {name}: {expected}"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("--batch_per_replica=2", "--global_batch=8"),
        ("--batch_per_replica=4", "--global_batch=8"),  # 4 is the default, which argparse itself takes for unset
        ("--epochs=100", "--steps=9"),
        ("--epochs=3", "--steps=9"),
    ],
)
def test_options_of_which_one_is_possible(first: str, second: str, capsys: pytest.CaptureFixture[str]):
    for pair in ((first, second), (second, first)):
        refused = refusal_of(capsys, "--dataset=data", *pair)
        assert "not allowed with argument" in refused
        assert first.partition("=")[0] in refused
        assert second.partition("=")[0] in refused


OF_DEEPLAB = [name for name in models.MODELS["deeplabv3plus"].options if name not in models.MODELS["u2netp"].options]
NO_EFFECT = [
    *((f"--{row.option.name}={OPTIONS[row.option.name][0]}", "--no-augment") for row in AUGMENTATIONS),
    *((f"--{row.option.name}={row.option.default}", "--no-augment") for row in AUGMENTATIONS[1:]),
    ("--momentum=0.9", "--optimizer=adamw"),
    ("--hard_pixel_ramp_steps=9", "--hard_pixel_fraction=1"),
    ("--top_k_ramp_steps=9", "--top_k=1"),
    *((f"--{name}={OPTIONS[name][0]}", "--model=u2netp") for name in OF_DEEPLAB),
    ("--depthwise_relu=true", "--backbone=keras_xception"),
    ("--patience=3", "--val_split="),
    ("--no_report", "--val_split="),
    ("--freeze_backbone", "--model=u2netp"),
    ("--backbone_learning_rate_multiplier=0.1", "--model=u2net"),
    ("--head_learning_rate_multiplier=10", "--model=u2net"),
    ("--backbone_learning_rate_multiplier=0.1", "--freeze_backbone"),
]


@pytest.mark.parametrize(("option", "choice"), NO_EFFECT)
def test_an_option_of_another_choice_is_refused(option: str, choice: str, capsys: pytest.CaptureFixture[str]):
    refused = refusal_of(capsys, "--dataset=data", option, choice)
    names = [settings_name(each) for each in (option, choice)]
    assert refused.startswith(f"argument --{names[0]}: has no effect with ")
    assert names[1].removeprefix("no-") in refused
    assert "leave it out, or set " in refused


def settings_name(argument: str) -> str:
    name = argument.partition("=")[0].removeprefix("--")
    return ALIASES.get(name, name)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--momentum=0.8",),
        ("--momentum=0.8", "--optimizer=sgd"),
        ("--flip=0", "--augment"),
        ("--no-augment",),
        ("--optimizer=adamw", "--weight_decay=0.1", "--clip_norm=1"),
        ("--hard_pixel_ramp_steps=9", "--hard_pixel_fraction=0.5"),
        ("--depthwise_relu=false",),
        ("--freeze_batch_norm", "--model=u2net"),
        ("--freeze_backbone", "--freeze_batch_norm", "--head_learning_rate_multiplier=10"),
        ("--depthwise_relu=false", "--backbone=xception41"),
        ("--model=u2net", "--width=0.5", "--batch_norm_momentum=0.9"),
        ("--schedule=constant", "--warmup=0.1"),
    ],
)
def test_options_that_fit_together_are_accepted(arguments: tuple[str, ...]):
    parse(*arguments)


def test_options_are_not_guessed_from_their_beginnings(capsys: pytest.CaptureFixture[str]):
    assert refusal_of(capsys, "--dataset=data", "--epoch=1") == "unknown option --epoch; did you mean --epochs?"


def test_earlier_names_of_evaluate_are_accepted_and_not_shown(capsys: pytest.CaptureFixture[str]):
    places = ("--model=run", "--dataset=data")
    now = parse_evaluate([*places, "--output=scores", "--batch_per_replica=3"])
    assert parse_evaluate([*places, "--report=scores", "--batch=3"]) == now
    assert (now.output, now.batch_per_replica) == ("scores", 3)
    with pytest.raises(SystemExit):
        parse_evaluate(["--help"])
    told = capsys.readouterr().out
    assert "--report" not in told
    assert "--batch " not in told

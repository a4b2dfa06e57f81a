"""`python -m trainer.convert`, and what takes its model files."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest
from rich.console import Console

from beam_pipelines.contract.normalization import Normalization
from tests.support.published import as_training_leaves_it, golden, write_checkpoint
from tests.support.pytorch_files import write_zip
from tests.torture.mutations import mutate_table
from trainer import convert, models
from trainer.inference import conversion
from trainer.inference.conversion import foreground
from trainer.inference.model_file import load_model
from trainer.models.backbones import BLOCK, aligned_xception, backbone_of, efficientnet_lite
from trainer.models.errors import ModelError, WeightsError
from trainer.models.layers import apply_block, leaves
from trainer.models.weights import slim_names, u2net_names
from trainer.models.weights.checkpoint_file import open_checkpoint
from trainer.models.weights.pytorch_file import open_state
from trainer.models.weights.transfer import load, unnamed
from trainer.models.weights.u2net_names import BACKBONE
from trainer.training.errors import TrainingError
from trainer.training.initial import start_from

# TensorFlow's tensors take no `copy` keyword yet, which NumPy 2 says wherever Keras saves a variable.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    pytest.mark.slow,
]
Variables = dict[str, np.ndarray]
IMAGENET, HALF = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), ((0.5,) * 3, (0.5,) * 3)
NORMALIZATION = Normalization((0.41, 0.43, 0.45), (0.31, 0.3, 0.29))


@pytest.fixture(scope="module")
def xception41() -> Variables:
    return golden("xception_41").weights()


@pytest.fixture(scope="module")
def checkpoint(xception41: Variables, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("zoo") / "model.ckpt", xception41)


@pytest.fixture(scope="module")
def state() -> Variables:
    return golden("u2netp").weights()


@pytest.fixture(scope="module")
def u2netp(state: Variables, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its model file."""
    folder = tmp_path_factory.mktemp("u2netp")
    weights = write_zip(folder / "u2netp.pth", state)
    assert convert.main([str(weights), f"--output={folder / 'u2netp.keras'}"]) == 0
    return folder / "u2netp.keras"


@pytest.fixture(scope="module")
def deeplab(checkpoint: Path) -> Path:
    """Its model file."""
    output = checkpoint.parent / "made" / "deeplab.keras"
    assert convert.main([str(checkpoint.parent), f"--output={output}"]) == 0
    return output


def test_a_file_is_not_replaced_unasked(u2netp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, arguments = u2netp.read_bytes(), [str(u2netp.parent / "u2netp.pth"), f"--output={u2netp}"]
    assert convert.main(arguments) == 1
    assert "u2netp.keras exists: set --overwrite to replace it" in capsys.readouterr().err
    assert u2netp.read_bytes() == before
    assert convert.main([*arguments, "--overwrite"]) == 0
    assert (
        "u2netp of 2 classes (label table foreground), from all 686 tensors of the network" in capsys.readouterr().out
    )


def test_an_output_that_is_no_model_file_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        convert.main(["weights", "--output=out"])
    assert caught.value.code == 2
    assert "argument --output: out does not end in .keras" in capsys.readouterr().err


def test_u2net_starts_from_the_function_of_the_converted_model(
    u2netp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs, description = load_model(str(u2netp))
    assert (description.labels, description.normalization) == (foreground(), Normalization(*IMAGENET))
    told = (
        r"has layers that prepare images \(divide_by_maximum, normalize, rescale\), unlike this model, so its weights "
    )
    with pytest.raises(TrainingError, match=f"{told}would see other numbers: set --backbone_weights=initial_model"):
        start_from(str(u2netp), models.build("u2netp", num_classes=2), Console())
    options = {"backbone_weights": "initial_model", "normalization": NORMALIZATION}
    mine = models.build("u2netp", num_classes=2, options=options)
    start_from(str(u2netp), mine, Console())
    assert "686 of 686 weights start from" in capsys.readouterr().out
    assert_same_function(mine, NORMALIZATION, theirs, description.normalization, (32, 64))


def assert_same_function(
    mine: keras.Model, normalization: Normalization, theirs: keras.Model, other: Normalization, size: tuple[int, int]
) -> None:
    """Both say the same of a picture, each with its normalization. The size is one that is not padded."""
    pixels = np.random.default_rng(0).integers(0, 200, (1, *size, 3)) / 255
    found, expected = (
        models.as_list(model(((pixels - each.center) / each.divisor).astype(np.float32)))[0].numpy()
        for model, each in ((mine, normalization), (theirs, other))
    )
    np.testing.assert_allclose(found, expected, atol=1e-4 * expected.std())


def test_a_run_on_other_data_starts_from_the_function_of_the_converted_model(deeplab: Path) -> None:
    theirs, description = load_model(str(deeplab))
    assert (description.labels.name, description.normalization) == ("cityscapes19", Normalization(*HALF))
    assert (description.size, description.step, description.mean_iou) == ((1024, 2048), 0, None)
    mine = deeplab_of("initial_model")
    start_from(str(deeplab), mine, Console(quiet=True))
    assert_same_function(mine, NORMALIZATION, theirs, description.normalization, (33, 65))


def deeplab_of(weights: object) -> keras.Model:
    """For 19 classes, with Xception-41."""
    options = {"backbone": "xception41", "backbone_weights": str(weights), "normalization": NORMALIZATION}
    return models.build("deeplabv3plus", num_classes=19, options=options)


# Backbones


def test_a_backbone_of_a_whole_model_and_of_a_classifier_is_loaded(
    checkpoint: Path, xception41: Variables, deeplab: Path, tmp_path: Path
) -> None:
    whole, _ = load_model(str(deeplab))
    classifier = {name: value for name, value in xception41.items() if name.startswith("xception_41/")}
    classes = {"weights": np.zeros((1, 1, 2048, 1001), np.float32), "biases": np.zeros(1001, np.float32)}
    classifier |= {f"xception_41/logits/{name}": value for name, value in classes.items()}
    path = write_checkpoint(tmp_path / "model.ckpt", as_training_leaves_it(classifier, ("RMSProp", "RMSProp_1")))
    model, names, loaded = deeplab_of(path), slim_names.backbone("xception_41"), 0
    for layer in model.layers:
        if layer.weights and not layer.name.startswith(("aspp", "decoder", "logits")):
            for found, expected in zip(layer.get_weights(), whole.get_layer(layer.name).get_weights(), strict=True):
                np.testing.assert_array_equal(found, expected)
                loaded += 1
    assert loaded == len(classifier) - 2
    part = list(leaves(backbone_of(model)))
    counts = [load(open_checkpoint(str(each)), names, model, part) for each in (path, checkpoint)]
    trained = sum("moving_" not in name and "/logits/" not in name for name in classifier)
    slots = {"RMSProp": trained, "RMSProp_1": trained, "classes of ImageNet": 6, "counters": 1}
    assert counts[0] == (loaded, slots)
    assert counts[1] == (loaded, {"outside the backbone": len(xception41) - loaded})


def test_u2net_starts_from_a_state_dict_with_maps_of_its_own(state: Variables, tmp_path: Path) -> None:
    counter = "stage1.rebnconvin.bn_s1.num_batches_tracked"
    path = write_zip(tmp_path / "x.pth", {**state, counter: np.array(7)})
    options = {"backbone_weights": str(path), "normalization": NORMALIZATION}
    model, one = (models.build("u2netp", num_classes=number, options=options) for number in (3, 1))
    heads = {f"logits_side{number}" for number in range(1, 7)} | {"logits_fused"}
    assert set(unnamed(BACKBONE, model)) == heads
    for layer, other in zip(leaves(model), leaves(one), strict=True):
        if layer.name not in heads:
            for found, expected in zip(layer.get_weights(), other.get_weights(), strict=True):
                np.testing.assert_array_equal(found, expected)
    known = golden("u2netp")
    images = ((known.picture() / 255 - NORMALIZATION.center) / NORMALIZATION.divisor).astype(np.float32)
    maps = np.stack([output[0, ..., 0] for output in one(images[None])])
    assert known.difference(maps, "logits") < 2e-5, "of one class, in another normalization"


def with_classes(state: Variables, number: int) -> Variables:
    """The state dict with maps of that many classes."""
    rng, fused = np.random.default_rng(5), (number, 6 * number, 1, 1)
    sides = dict.fromkeys((f"side{side}.weight" for side in range(1, 7)), (number, 64, 3, 3))
    biases = {name: (number,) for name in state if name.startswith(("side", "outconv")) and name.endswith("bias")}
    shapes = {**sides, "outconv.weight": fused, **biases}
    return {**state, **{name: rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}}


def test_u2net_of_several_classes_keeps_its_maps(state: Variables, tmp_path: Path) -> None:
    weights = with_classes(state, 7)
    path = str(write_zip(tmp_path / "seven.pth", weights))
    with pytest.raises(ModelError, match=r"has 7 classes: set --labels .* trained with, cityscapes7; published are fo"):
        conversion.convert(path)
    model, description, account = conversion.convert(path, "cityscapes7")
    assert (account.used, description.labels.name, description.size) == (686, "cityscapes7", None)
    values = {variable.path: variable.numpy() for variable in model.weights}
    for ours, theirs in (("logits_side3", "side3"), ("logits_fused", "outconv")):
        kernel = weights[f"{theirs}.weight"].transpose(2, 3, 1, 0)
        np.testing.assert_array_equal(values[f"{ours}/kernel"], kernel)
        np.testing.assert_array_equal(values[f"{ours}/bias"], weights[f"{theirs}.bias"])


def test_a_number_of_classes_that_no_label_table_has_is_refused(state: Variables, tmp_path: Path) -> None:
    path = str(write_zip(tmp_path / "three.pth", with_classes(state, 3)))
    with pytest.raises(
        ModelError, match=r"has 3 classes, and no label table has as many \(there are those of 2, 7, 11, 19, .*_weights"
    ):
        conversion.convert(path)


def test_an_output_stride_of_a_network_that_has_none_is_refused(
    state: Variables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_zip(tmp_path / "u2netp.pth", state)
    arguments = [str(path), f"--output={tmp_path / 'x.keras'}", "--output_stride=16"]
    assert convert.main(arguments) == 1
    assert "u2netp has no output stride, and it is set to 16: leave out --output_stride" in capsys.readouterr().err
    assert not (tmp_path / "x.keras").exists()


# Refusals


def test_a_layer_that_no_rule_names_may_not_stay_random(state: Variables, tmp_path: Path) -> None:
    source = open_state(str(write_zip(tmp_path / "u2netp.pth", state)))
    model = models.build("u2netp", num_classes=1)
    names = u2net_names.whole("u2netp")
    lacking = dataclasses.replace(
        names,
        rules=tuple(rule for rule in names.rules if rule.name != "outconv"),
        dropped=lambda name, _: "maps" if name.startswith("outconv") else None,
    )
    with pytest.raises(ModelError, match="1 layers of u2netp, such as logits_fused, are not in the table of names"):
        load(source, lacking, model)
    part = [layer for layer in leaves(model) if layer.name != "logits_fused"]
    assert load(source, lacking, model, part).used == 684


def test_a_backbone_whose_table_lacks_a_layer_is_refused(tmp_path: Path) -> None:
    images = keras.Input((None, None, 3))
    stem = keras.layers.Conv2D(32, 3, use_bias=False, name="forgotten")
    x = apply_block(BLOCK, stem, images)
    model = keras.Model(images, keras.layers.Conv2D(2, 1, name="logits")(x))
    state = write_zip(tmp_path / "x.pth", {"weight": np.zeros(3, np.float32)})
    for copy in (
        aligned_xception.read_weights(str(tiny(tmp_path / "model.ckpt")), variant="xception_41"),
        efficientnet_lite.read_weights(str(state)),
    ):
        with pytest.raises(ModelError, match=r"1 layers of .*, such as forgotten, are not in the table of names"):
            copy(model)


def tiny(prefix: Path, *, classes: int = 19, scope: str = "xception_41", **others: np.ndarray) -> Path:
    """A checkpoint with what a network is known by, and nothing else but `others`."""
    marker = {f"{scope}/entry_flow/conv1_1/weights": np.ones((3, 3, 3, 32), np.float32)}
    logits = {"logits/semantic/weights": np.ones((1, 1, 256, classes), np.float32)} if classes else {}
    return write_checkpoint(prefix, {**marker, **logits, **others})


def cut(path: Path) -> Path:
    data = path.with_name(f"{path.name}.data-00000-of-00001")
    data.write_bytes(data.read_bytes()[:-100])
    return path


def bare(path: Path) -> Path:
    path.with_name(f"{path.name}.data-00000-of-00001").unlink()
    return path


def twice(path: Path) -> Path:
    tiny(path.with_name("other.ckpt"))
    return path.parent


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: path, r"there is no file .*model\.ckpt; set the path of a weights file"),
        (lambda path: path.parent, r"has no checkpoint: no file in it ends in \.index"),
        (lambda path: path.with_name("model.ckpt.index"), r"there is no checkpoint .*model\.ckpt: "),
        (lambda path: twice(tiny(path)), r"has 2 checkpoints: set the path of one of them, such as .*/other\.ckpt"),
        (
            lambda path: tiny(path, classes=0),
            r"has no logits/semantic/weights, so it is not a whole .*--backbone_w",
        ),
        (
            lambda path: tiny(path, classes=7),
            r"has 7 classes: set --labels .* cityscapes19 \(19\), voc21 \(21\)",
        ),
        (
            lambda path: write_checkpoint(path, {"resnet/conv1/weights": np.zeros(3, np.float32)}),
            r"none of the networks that can be converted \(deeplabv3plus with xception65, .*, u2netp\), but 1 tensors",
        ),
    ],
    ids=["absent", "empty", "no index", "two", "a backbone", "7 classes", "foreign"],
)
def test_what_is_no_whole_network_is_refused(make: Callable[[Path], Path], told: str, tmp_path: Path) -> None:
    with pytest.raises((ModelError, WeightsError), match=told):
        conversion.convert(str(make(tmp_path / "model.ckpt")))


def test_a_model_without_one_of_its_variables_is_refused(xception41: Variables, tmp_path: Path) -> None:
    lost = "decoder/decoder_conv0_pointwise/weights"
    path = write_checkpoint(tmp_path / "x", {name: value for name, value in xception41.items() if name != lost})
    with pytest.raises(
        ModelError, match=rf"DeepLabV3\+ with xception_41: it lacks 1 of its 492 tensors, such as {lost}"
    ):
        conversion.convert(str(path))


def test_a_trained_model_needs_no_conversion(tmp_path: Path) -> None:
    (tmp_path / "best.keras").write_bytes(b"")
    for given in (f"{tmp_path}/best.keras", str(tmp_path)):
        with pytest.raises(
            ModelError, match=f"{given} is a trained model already: set it as --model, or as --initial_"
        ):
            conversion.convert(given)


def test_labels_of_another_number_of_classes_are_refused(tmp_path: Path) -> None:
    path = str(tiny(tmp_path / "model.ckpt"))
    with pytest.raises(ModelError, match="has 19 classes, and the label table voc21 has 21: leave out --labels"):
        conversion.convert(path, "voc21")
    with pytest.raises(ModelError, match="there is no label table 'x'; set --labels to one of cityscapes19, "):
        conversion.convert(path, "x")


@pytest.mark.parametrize("name", ["model.ckpt.data-00000-of-00001", "model.ckpt.index"])
def test_a_checkpoint_that_ends_anywhere_is_refused(name: str, tmp_path: Path) -> None:
    large = {"a": np.ones(2_000_000, np.float32), "b": np.ones(3, np.float32)}
    path = write_checkpoint(tmp_path / "model.ckpt", large)
    content = (tmp_path / name).read_bytes()
    for end in (0, 1, len(content) // 3, len(content) // 2, len(content) - 13, len(content) - 1):
        (tmp_path / name).write_bytes(content[:end])
        with pytest.raises(ModelError, match=r"is damaged|is not a checkpoint that can be read"):
            read_all(str(path))


def read_all(path: str) -> None:
    source = open_checkpoint(path)
    for name in source.shapes:
        source.read(name)


def test_an_index_is_read_before_tensorflow_gets_it(tmp_path: Path) -> None:
    """With right checksums and entries that are none, or of impossible shapes, which end the process there."""
    path = write_checkpoint(tmp_path / "model.ckpt", {"a/weights": np.ones((3, 2), np.float32), "b": np.ones(1)})
    index, told = tmp_path / "model.ckpt.index", []
    sound = index.read_bytes()
    for case in range(300):
        index.write_bytes(mutate_table(sound, Random(case)))
        try:
            read_all(str(path))
        except ModelError as error:
            told.append(str(error))
    for what in ("an entry of its index can't be read", "bytes from byte", "a checksum of its index is wrong"):
        assert [line for line in told if what in line], what


def test_damage_of_a_checkpoint_is_seen_when_it_is_read(tmp_path: Path) -> None:
    source = open_checkpoint(str(tiny(tmp_path / "model.ckpt")))
    assert source.read("logits/semantic/weights").sum() == 256 * 19
    data = tmp_path / "model.ckpt.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-1] + b"\0")
    with pytest.raises(ModelError, match=r"model\.ckpt is damaged: .* can't be read .*get the files again"):
        read_all(str(tmp_path))
    with pytest.raises(ModelError, match=r"is damaged: .* can't be read"):
        [source.read(name) for name in open_checkpoint(str(cut(tmp_path / "model.ckpt"))).shapes]
    with pytest.raises(ModelError, match=r"is damaged: .* can't be read"):
        [source.read(name) for name in open_checkpoint(str(bare(tmp_path / "model.ckpt"))).shapes]
    (tmp_path / "model.ckpt.index").write_bytes(b"not a table")
    with pytest.raises(ModelError, match=r"model\.ckpt is not a checkpoint that can be read"):
        open_checkpoint(str(tmp_path / "model.ckpt.index"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"backbone": "xception65"}, r"has xception_41, not xception_65: set --backbone=xception41, or set the path"),
        (
            {"backbone": "xception41", "depthwise_relu": True},
            "depthwise_relu=True does not fit .*: leave out",
        ),
        ({"backbone": "xception41", "width": 0.5}, r"and the model has xception41 of width 0\.5: leave out --width"),
        (
            {"backbone": "xception41", "width": 1},
            r"the backbone xception_41: it lacks 419 of its 420 tensors, such",
        ),
    ],
    ids=["another backbone", "another activation", "another width", "partial"],
)
def test_a_backbone_that_does_not_fit_is_refused(options: dict[str, Any], told: str, tmp_path: Path) -> None:
    given = {"backbone_weights": str(tiny(tmp_path / "model.ckpt")), "normalization": NORMALIZATION, **options}
    with pytest.raises(ModelError, match=told):
        models.build("deeplabv3plus", num_classes=2, options=given)


def test_imagenet_weights_of_xception_have_to_be_a_file() -> None:
    with pytest.raises(
        WeightsError, match=r"xception_65 are in no Python package: set the path of a checkpoint with x"
    ):
        models.build(
            "deeplabv3plus", num_classes=2, options={"backbone_weights": "imagenet", "normalization": NORMALIZATION}
        )


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"width": 0.5, "normalization": NORMALIZATION}, r"needs u2netp of width 1, not 0\.5: leave out --width"),
        ({}, "needs the `normalization` of the images"),
        ({"backbone_weights": "imagenet"}, r"no ImageNet weights of u2netp .* to a file, as u2netp\.pth"),
        ({"normalization": NORMALIZATION}, r"does not contain the weights of u2netp: it lacks 672 of its 672 tensors"),
    ],
)
def test_u2net_refuses_what_does_not_fit(options: dict[str, Any], told: str, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.pth", {"weight": np.zeros(3, np.float32)})
    with pytest.raises(ModelError, match=told):
        models.build("u2netp", num_classes=2, options={"backbone_weights": str(path), **options})

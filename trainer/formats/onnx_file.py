"""ONNX: conversion by tf2onnx, and ONNX Runtime on the CPU.

tf2onnx writes a resize to a fixed size as one by a factor, in float32, and ONNX's shape inference takes the integer
part of size * factor: 7 pixels resized to 25, which DeepLab does for images of 96, become 24, and the runtime refuses
the file. So resizes are written here, by the converter's interface for that, with their sizes in TensorFlow.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from trainer.formats.errors import FormatError, UnsupportedOperationError, needed_packages

TITLE = "ONNX"
OPSET = 18  # the first in which Resize takes the sizes of some of the axes; the last that tf2onnx writes
BATCH = None  # any number of images
FACTS = {"opset": OPSET, "call": 'onnxruntime.InferenceSession(FILE).run(["class_map"], {"images": images})[0]'}
_BATCH_NAME = "batch"
_ALIGNMENTS = {(True, False): "align_corners", (False, True): "half_pixel", (False, False): "asymmetric"}


def require() -> None:
    """Raises FormatError if the packages are missing."""
    with needed_packages(TITLE):
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import tf2onnx  # noqa: F401


def versions() -> dict[str, str]:
    """Of the converter, the format's library and the runtime."""
    import onnx
    import onnxruntime
    import tf2onnx

    return {"tf2onnx": tf2onnx.__version__, "onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}


def convert(module: tf.Module) -> bytes:
    """The file of `module.tensor`, a tf.function of images to {"class_map": ...} with a signature.

    Raises:
      UnsupportedOperationError: ONNX or the converter lacks an operation.
    """
    import tf2onnx

    function = module.tensor
    with _silent("tf2onnx"):
        model, _ = tf2onnx.convert.from_function(
            function,
            input_signature=function.input_signature,
            opset=OPSET,
            custom_op_handlers={"ResizeBilinear": (_resize_to_sizes, [])},
        )
    _check_operations(model)
    for each in (*model.graph.input, *model.graph.output):
        each.type.tensor_type.shape.dim[0].dim_param = _BATCH_NAME  # else a number that the converter drew
    content: bytes = model.SerializeToString()
    return content


class Runner:
    """Runs a file: images uint8[B, H, W, 3] -> train ids uint8[B, H, W].

    Raises:
      FormatError: the runtime refuses the file, or fails on these images.
    """

    def __init__(self, content: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        with _refused():
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def __call__(self, images: np.ndarray) -> np.ndarray:
        with _refused():
            (class_map,) = self._session.run(["class_map"], {"images": images})
        return np.asarray(class_map)


def _resize_to_sizes(graph: Any, node: Any, name: str, _: Any) -> None:
    """Replaces TensorFlow's ResizeBilinear [B, h, w, C] by Resize with the sizes H and W instead of factors."""
    from tf2onnx.utils import make_name

    corners, centers = (bool(node.get_attr_value(each, 0)) for each in ("align_corners", "half_pixel_centers"))
    attributes = {"axes": [2, 3], "mode": "linear", "coordinate_transformation_mode": _ALIGNMENTS[corners, centers]}
    sizes = graph.make_const(make_name("sizes"), np.array(node.inputs[1].get_tensor_value(), np.int64))
    shapes, dtypes = node.output_shapes, node.output_dtypes
    channels_first = graph.make_node("Transpose", [node.input[0]], {"perm": [0, 3, 1, 2]})
    resized = graph.make_node("Resize", [channels_first.output[0], "", "", sizes.output[0]], attr=attributes)
    back = {"perm": [0, 2, 3, 1]}
    graph.remove_node(name)
    graph.make_node("Transpose", resized.output, back, name=name, outputs=node.output, shapes=shapes, dtypes=dtypes)


def _check_operations(model: Any) -> None:
    """Raises UnsupportedOperationError if operations are left that tf2onnx did not convert."""
    import onnx

    left = [node for node in _nodes(model.graph) if not onnx.defs.has(node.op_type, node.domain)]
    if left:
        where = f"first in the layer {'/'.join(left[0].name.split('/')[:-1]) or left[0].name}"
        raise UnsupportedOperationError(TITLE, [node.op_type for node in left], where)


def _nodes(graph: Any) -> Iterator[Any]:
    """The nodes of a graph and of the branches and loops in it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)


@contextlib.contextmanager
def _silent(name: str) -> Iterator[None]:
    """Without the messages of a logger and those below it: what they say of operations is said by an error."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextlib.contextmanager
def _refused() -> Iterator[None]:
    """Turns an error of ONNX Runtime into a FormatError."""
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    kinds = (errors.Fail, errors.InvalidGraph, errors.InvalidArgument, errors.NotImplemented, errors.RuntimeException)
    try:
        yield
    except kinds as error:
        raise FormatError(
            f"ONNX Runtime can't run the converted model ({' '.join(str(error).split())}): export a SavedModel "
            "(--format=savedmodel), or try another --image_size"
        ) from error

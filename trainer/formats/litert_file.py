"""LiteRT (TensorFlow Lite): conversion by TensorFlow's converter to builtin operations, and the LiteRT interpreter.

The file takes one image at a time: with a fixed batch all sizes are static, which delegates to GPUs and other
accelerators need, and dilated convolutions stay convolutions.
"""

from __future__ import annotations

import re
import tempfile
from importlib.metadata import version

import numpy as np
import tensorflow as tf

from trainer.console import held_back
from trainer.errors import cause_of
from trainer.formats.errors import FormatError, UnsupportedOperationError, needed_packages

TITLE = "LiteRT"
BATCH = 1
SIGNATURE = "tensor"
FACTS = {
    "signature": SIGNATURE,
    "call": f'Interpreter(FILE).get_signature_runner("{SIGNATURE}")(images=images)["class_map"]',
}
_LACKS = re.compile(r"^(?:TF Select ops|Custom ops|Flex ops): (.+)$", re.MULTILINE)


def require() -> None:
    """Raises FormatError if the packages are missing."""
    with needed_packages(TITLE):
        from ai_edge_litert import interpreter  # noqa: F401


def versions() -> dict[str, str]:
    """Of the converter and the runtime."""
    return {"tensorflow": tf.__version__, "ai-edge-litert": version("ai-edge-litert")}


def convert(module: tf.Module) -> bytes:
    """The file of `module.tensor`, a tf.function of images to {"class_map": ...} with a signature.

    Raises:
      UnsupportedOperationError: LiteRT's builtin operations do not suffice.
      FormatError: the converter fails for another reason.
    """
    failure: Exception | None = None
    with tempfile.TemporaryDirectory() as scratch, held_back():
        tf.saved_model.save(module, scratch, signatures={SIGNATURE: module.tensor})
        converter = tf.lite.TFLiteConverter.from_saved_model(scratch, signature_keys=[SIGNATURE])
        try:
            content: bytes = converter.convert()
        except Exception as error:  # the converter's own type is not public
            failure = error
    if failure is None:
        return content
    lacks = [name.strip() for found in _LACKS.findall(str(failure)) for name in found.split(",")]
    if lacks:
        raise UnsupportedOperationError(TITLE, lacks) from failure
    if type(failure).__name__ != "ConverterError":
        raise failure
    raise FormatError(
        f"TensorFlow's converter to LiteRT fails ({cause_of(failure)}): export a SavedModel (--format=savedmodel), or "
        "try --format=onnx"
    ) from failure


class Runner:
    """Runs a file: images uint8[B, H, W, 3], one after the other -> train ids uint8[B, H, W].

    Raises:
      FormatError: the runtime refuses the file, or fails on these images.
    """

    def __init__(self, content: bytes) -> None:
        from ai_edge_litert.interpreter import Interpreter

        with held_back():  # says which delegate it uses
            try:
                interpreter = Interpreter(model_content=content)
                interpreter.allocate_tensors()
                self._run = interpreter.get_signature_runner(SIGNATURE)
            except (RuntimeError, ValueError) as error:
                raise _refusal(error) from error

    def __call__(self, images: np.ndarray) -> np.ndarray:
        try:
            return np.concatenate([self._run(images=image[np.newaxis])["class_map"] for image in images])
        except RuntimeError as error:
            raise _refusal(error) from error


def _refusal(error: Exception) -> FormatError:
    return FormatError(
        f"LiteRT can't run the converted model ({' '.join(str(error).split())}): export a SavedModel "
        "(--format=savedmodel), or try another --image_size"
    )

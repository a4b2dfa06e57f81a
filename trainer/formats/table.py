"""The formats of exported files. A new one is a row of `FORMATS` and a module beside this one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from trainer.formats import litert_file, onnx_file

Run = Callable[[np.ndarray], np.ndarray]  # images uint8[B, H, W, 3] -> train ids uint8[B, H, W]


@dataclass(frozen=True, kw_only=True)
class Format:
    """How files of a format are made and run.

    Attributes:
      title: in messages.
      batch: the number of images that a file takes at a time; None is any.
      require: raises FormatError if packages are missing.
      versions: package -> version, of the converter and the runtime.
      convert: a module with a tf.function `tensor` -> the content of the file.
      runner: the content -> a function that runs it.
      facts: of the content, for the JSON beside the file.
    """

    title: str
    batch: int | None
    require: Callable[[], None]
    versions: Callable[[], dict[str, str]]
    convert: Callable[[tf.Module], bytes]
    runner: Callable[[bytes], Run]
    facts: Mapping[str, Any]


FORMATS: Mapping[str, Format] = {
    name: Format(
        title=module.TITLE,
        batch=module.BATCH,
        require=module.require,
        versions=module.versions,
        convert=module.convert,
        runner=module.Runner,
        facts=module.FACTS,
    )
    for name, module in (("onnx", onnx_file), ("litert", litert_file))
}

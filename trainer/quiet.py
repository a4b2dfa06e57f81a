"""TensorFlow without its log, for commands whose output is meant for people."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


def import_tensorflow(verbose: bool = False) -> None:
    """Imports it and lets it look for devices; what it has to say about that is shown only with `verbose`, or if it
    fails. TF_CPP_MIN_LOG_LEVEL does not hold back what is logged before TensorFlow has set its log up.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if verbose else "2")
    with contextlib.nullcontext() if verbose else _held_back():
        import tensorflow as tf

        tf.config.list_physical_devices()


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    """Native code writes to the file descriptor, which Python's sys.stderr does not see."""
    sys.stderr.flush()
    real = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            yield
        except BaseException:
            log.seek(0)
            os.write(real, log.read())
            raise
        finally:
            os.dup2(real, 2)
            os.close(real)

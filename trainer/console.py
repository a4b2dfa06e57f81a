"""Commands whose output is meant for people: without TensorFlow's log, and without a traceback for Ctrl-C."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import ParamSpec

_Arguments = ParamSpec("_Arguments")


def interruptible(main: Callable[_Arguments, int]) -> Callable[_Arguments, int]:
    """Ctrl-C ends it with a line, and the exit code that shells give to it."""

    @functools.wraps(main)
    def command(*args: _Arguments.args, **named: _Arguments.kwargs) -> int:
        try:
            return main(*args, **named)
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            return 128 + signal.SIGINT

    return command


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
        except KeyboardInterrupt:
            raise
        except BaseException:
            log.seek(0)
            os.write(real, log.read())
            raise
        finally:
            os.dup2(real, 2)
            os.close(real)

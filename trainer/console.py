"""Output of commands for people: without TensorFlow's log, and with one line for each error."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator

from beam_pipelines.contract.errors import exit_code_of


def run_command(
    work: Callable[[], int],
    *,
    check: Callable[[], None] = lambda: None,
    verbose: bool = False,
    less_memory: str = "Give less to it",
    hosts: int = 1,
) -> int:
    """Imports TensorFlow, does `work`, and returns its exit code; see `beam_pipelines.contract.errors.exit_code_of`.

    check: raises what can be told without TensorFlow, whose import takes seconds.
    less_memory, hosts: see `trainer.errors.explain`.
    """

    def import_and_work() -> int:
        check()
        import_tensorflow(verbose)
        return work()

    def explain(error: Exception) -> str | None:
        from trainer import errors

        return errors.explain(error, less_memory, hosts)

    return exit_code_of(import_and_work, verbose=verbose, explain=explain)


def import_tensorflow(verbose: bool = False) -> None:
    """Imports TensorFlow and initializes its devices; its log is shown only with `verbose`, or if it fails.
    TF_CPP_MIN_LOG_LEVEL does not suppress what is logged before TensorFlow has set up its log.
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

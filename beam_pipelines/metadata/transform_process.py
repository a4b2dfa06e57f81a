"""The process in which `transform_fn` is made, so that this one does not load TensorFlow. Its imports take seconds: it
may start before there is a data set, and waits for it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from types import TracebackType

from beam_pipelines.errors import BuildError, as_build_error
from beam_pipelines.files import storage
from beam_pipelines.files.workspace import Workspace

_FULL = [os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT)]  # as TensorFlow quotes it, without the number
_COMMAND = [sys.executable, "-m", "beam_pipelines.metadata.transform_fn"]


class TransformProcess:
    """Makes the `transform_fn` of the data set in a folder. At the end of the block the process ends, whatever it does.

    Its temporary files are below the data set if that is local, so that the next build removes what a killed one left.
    """

    def __init__(self, place: Workspace) -> None:
        self._place = place
        self._process: subprocess.Popen[str] | None = None
        self._scratch = contextlib.ExitStack()

    def start(self) -> None:
        """Starts the process, which imports TensorFlow and waits."""
        scratch = self._scratch.enter_context(_temporary(self._place))
        command = [*_COMMAND, self._place.root, str(os.getpid()), self._place.token]
        self._process = subprocess.Popen(
            command,
            env=os.environ | {"TMPDIR": scratch},
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def write(self) -> None:
        """Writes the files of the published data set.

        Raises:
          BuildError: they can't be made or written, or another build has taken the folder (ReplacedBuildError).
        """
        told = self._told() if self._process else None
        if told is None or told[0]:  # one that had to wait may have been killed meanwhile
            self.close()
            self.start()
            told = self._told()
        code, errors = told
        self.close()
        if code:
            self._place.check()
            raise BuildError(f"the data set is complete, but writing its transform_fn failed{self._why(code, errors)}")

    def _why(self, code: int, errors: str) -> str:
        again = "run the same command again"
        if told := as_build_error(RuntimeError(errors)):
            return f": {told}"
        if full := next((text for text in _FULL if text in errors), None):
            return f": {self._place.root}: {full}; free some space and {again}"
        command = f"`{' '.join([*_COMMAND, self._place.root])}`"
        if code == -signal.SIGKILL:
            return f": {command} was killed, maybe for lack of memory; free some memory and {again}"
        return f"; {again}. {command} exited with {code}: {errors.strip().rpartition(chr(10))[2]}"

    def close(self) -> None:
        if self._process:
            self._process.kill()
            self._process.communicate()
            self._process = None
        self._scratch.close()

    def __enter__(self) -> TransformProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _told(self) -> tuple[int, str]:
        """The exit code, and what the process printed as its errors."""
        assert self._process is not None
        _, errors = self._process.communicate("the data set is there\n")
        return self._process.returncode, errors


@contextlib.contextmanager
def _temporary(place: Workspace) -> Iterator[str]:
    if not storage.is_local(place.root):
        with tempfile.TemporaryDirectory() as folder:
            yield folder
        return
    folder = os.path.abspath(place.scratch)
    os.makedirs(folder, exist_ok=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)

"""One build at a time in a folder: a second one is refused, and the lease of a killed one expires."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any, TextIO

from beam_pipelines import stopping
from beam_pipelines.errors import BuildError
from beam_pipelines.files import cloud, storage
from beam_pipelines.files.refusals import cannot_write

HEARTBEAT_SECONDS = 20
LAPSE_SECONDS = 90  # without a heartbeat; longer than any pause of a running build
_TIMEOUT_SECONDS = 60
_lost: set[str] = set()  # leases that this process held until another build took them


@contextlib.contextmanager
def hold(path: str) -> Iterator[None]:
    """Holds the lease at `path` for the block. Raises BuildError if another build holds it."""
    with _hold_local(path) if storage.is_local(path) else _hold_object(path):
        yield


def check(path: str) -> None:
    """Raises BuildError if this process has lost the lease at `path`: the folder belongs to another build now."""
    if path in _lost:
        raise BuildError(
            f"another build is writing to {_folder(path)}: this one could not renew its lease for {LAPSE_SECONDS} s; "
            "wait for the other one to end, and run the same command again"
        )


@contextlib.contextmanager
def _hold_local(path: str) -> Iterator[None]:
    """A lock of the operating system, which is released however the process ends. If the block leaves no other file in
    the folder, the lease is removed, and so are the folders that were created for it.
    """
    made = _missing_folders(path)

    def tidy() -> None:
        with contextlib.suppress(OSError):
            if os.listdir(os.path.dirname(path)) == [os.path.basename(path)]:
                os.remove(path)
            for folder in made:
                os.rmdir(folder)

    with contextlib.ExitStack() as held:
        try:
            file = held.enter_context(_lock(path))
            held.callback(tidy)  # while it is locked
            file.truncate(0)
            os.write(file.fileno(), _owner().encode())  # Python's own buffer would be written again when it is closed
        except OSError as error:  # also raised by a file system without locks
            raise cannot_write(os.path.dirname(path), error) from error
        with stopping.on_stop(tidy):
            yield


def _missing_folders(path: str) -> list[str]:
    """The folders that `path` needs and that do not exist, the deepest first."""
    missing = []
    while (path := os.path.dirname(path)) and not os.path.lexists(path):
        missing.append(path)
    return missing


def _lock(path: str) -> TextIO:
    """-> the file at `path`, locked until it is closed. Raises OSError, or BuildError if another process has it."""
    while True:
        with contextlib.ExitStack() as opened:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            file = opened.enter_context(open(path, "a+", opener=_not_through_a_link))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                raise BuildError(_held(path, file.read() or "another process")) from error
            # A build deletes its lease while it holds it: a file that was opened before that is no longer the lease.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                    opened.pop_all()
                    return file


def _not_through_a_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


@contextlib.contextmanager
def _hold_object(path: str) -> Iterator[None]:
    """An object that a heartbeat renews; each version is written only if the one before it is still there."""
    blob, owner = _blob(path), _owner()
    with cloud.errors(path):
        _claim(blob, owner, path)
    _lost.discard(path)
    stop = threading.Event()
    beat = threading.Thread(target=_renew, args=(blob, owner, path, stop), daemon=True)
    beat.start()

    def give_up() -> None:
        stop.set()
        beat.join()
        if path not in _lost:
            with contextlib.suppress(Exception):
                blob.delete(if_generation_match=blob.generation)  # but not the lease of a later build

    try:
        with stopping.on_stop(give_up):
            yield
    finally:
        give_up()


def _claim(blob: Any, owner: str, path: str) -> None:
    """Writes our lease; afterwards `blob.generation` is that of our version."""
    generation = 0
    if blob.exists():
        blob.reload()
        age = max(0.0, _server_time(blob) - blob.updated.timestamp())
        if age < LAPSE_SECONDS:
            wait = f"if that one was killed, run the same command again in {LAPSE_SECONDS - age:.0f} s"
            raise BuildError(_held(path, f"{blob.download_as_text()}, last seen {age:.0f} s ago; {wait}"))
        generation = blob.generation
    if not _write(blob, owner, generation):
        raise BuildError(_held(path, "another build that started at the same moment"))


def _server_time(blob: Any) -> float:
    """The storage's own time.time(), since the clocks of two machines may differ by more than `LAPSE_SECONDS`."""
    answer = blob.client._http.get(blob.client._connection.build_api_url(blob.path), timeout=_TIMEOUT_SECONDS)
    date = answer.headers.get("Date")
    return parsedate_to_datetime(date).timestamp() if date else time.time()


def _write(blob: Any, owner: str, generation: int) -> bool:
    """Writes a version if the current one is `generation`, 0 for none. -> False if another build was faster."""
    from google.api_core.exceptions import NotFound, PreconditionFailed

    try:
        blob.upload_from_string(owner, if_generation_match=generation)
    except PreconditionFailed:
        try:
            found = blob.download_as_text()
        except NotFound:
            return False  # that build has ended already
        if found != owner:
            return False
        blob.reload()  # it is ours: the response was lost, and the client retried
    return True


def _renew(blob: Any, owner: str, path: str, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_SECONDS):
        # A failed heartbeat does no harm, whatever the reason: the lease expires only after several.
        with contextlib.suppress(Exception):
            if not _write(blob, owner, blob.generation):
                _lost.add(path)  # it expired, and another build holds it now
                return


def _blob(path: str) -> Any:
    from apache_beam.io.gcp.gcsio import create_storage_client, parse_gcs_path
    from apache_beam.options.pipeline_options import PipelineOptions

    bucket, name = parse_gcs_path(path)
    with cloud.errors(path):
        return create_storage_client(PipelineOptions([])).bucket(bucket).blob(name)


def is_lease(text: bytes) -> bool:
    """Whether a build wrote this text into its lease."""
    return text.startswith(b'{"host": ')


def _owner() -> str:
    return json.dumps({"host": socket.gethostname(), "process": os.getpid(), "build": uuid.uuid4().hex[:8]})


def _held(path: str, owner: str) -> str:
    return f"another build is writing to {_folder(path)} ({owner}): wait for it to end, or choose another --output"


def _folder(path: str) -> str:
    return path.rsplit("/", 2)[0]

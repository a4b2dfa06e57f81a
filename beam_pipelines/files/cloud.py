"""Google Cloud: the account that is logged in, and errors as sentences with a fix."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

from beam_pipelines.errors import BuildError, first_line
from beam_pipelines.files import refusals
from beam_pipelines.files.refusals import NO_ANSWER, refusal_of_status

LOGIN = refusals.LOGIN
_NO_ACCOUNT = ("DefaultCredentialsError", "RefreshError", "InvalidOperation")  # of google.auth


def find_account(scopes: Sequence[str] | None = None) -> Any:
    """The google.auth credentials: of a key file, of gcloud's login, or of a machine in the cloud.

    Raises:
      google.auth.exceptions.DefaultCredentialsError: there are none; raised within seconds.
    """
    # Outside the cloud, the metadata server does not answer: three requests of three seconds each would be a stall.
    # google.auth reads these variables at its first request.
    os.environ.setdefault("GCE_METADATA_TIMEOUT", "2")
    os.environ.setdefault("GCE_METADATA_DETECT_RETRIES", "1")
    import google.auth

    credentials, _ = google.auth.default(scopes=scopes)
    return credentials


def check_login(*paths: str) -> None:
    """Raises BuildError if one of `paths` is in a bucket and no Google account is set up: Beam would
    search for 20 s, and then continue without one. An emulator needs no account.
    """
    remote = [path for path in paths if path.startswith("gs://")]
    if not remote or "STORAGE_EMULATOR_HOST" in os.environ:
        return
    from google.auth.exceptions import DefaultCredentialsError

    try:
        find_account()
    except DefaultCredentialsError as error:
        raise BuildError(f"{remote[0]}: no Google account is set up; {LOGIN}") from error


@contextlib.contextmanager
def errors(path: str) -> Iterator[None]:
    """Turns an error of the cloud about `path`, or a missing answer, into a BuildError with a fix; other errors pass.
    The clients have already retried transient errors, with backoff.
    """
    try:
        yield
    except Exception as error:
        refused = refusal(path, error)
        if refused is None:
            raise
        raise refused from error


def refusal(path: str, error: BaseException) -> BuildError | None:
    """An error of a Google client or of Beam about `path`, as a BuildError; None if `error` is of another kind."""
    answer = _answer(error)
    if answer is None:
        return None
    status, said = answer
    found = f"the storage answered {status}, {said}" if status else f"the storage can't be reached, {said}"
    return BuildError(f"{path}: {found}; {refusal_of_status(status).read}")


def status_of(error: BaseException) -> int | None:
    """The HTTP status of an error of a Google client or of Beam, 401 for missing credentials; None for other errors."""
    answer = _answer(error)
    return answer[0] if answer else None


def _answer(error: BaseException) -> tuple[int, str] | None:
    """(HTTP status, message), the status NO_ANSWER if the cloud did not answer; None for other errors."""
    if type(error).__name__ in _NO_ACCOUNT:
        return 401, first_line(error)
    # The errors of single files that a Beam error holds (for batches a bare status), or the last error of a client.
    causes = [*(getattr(error, "exception_details", None) or {}).values(), getattr(error, "cause", None)]
    for cause in causes:
        if isinstance(cause, int):
            return cause, _reason(cause)
        if isinstance(cause, BaseException) and (answer := _answer(cause)):
            return answer
    code = getattr(error, "code", None) or getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(code, int) and 400 <= code < 600:
        return int(code), _said(error) or _reason(code)
    kind = type(error)
    silent = isinstance(error, ConnectionError) or kind.__name__ == "TransportError"  # that of google.auth
    return (NO_ANSWER, first_line(error)) if silent or kind.__module__.startswith(("requests.", "urllib3.")) else None


def _said(error: BaseException) -> str:
    """The message of the answer, without the request."""
    with contextlib.suppress(AttributeError, LookupError, TypeError, ValueError):
        return first_line(error.response.json()["error"]["message"])  # type: ignore[attr-defined]
    return re.sub(r"^(\d{3} )?([A-Z]+ \S+: )?|: \('Request failed.*", "", first_line(error))


def _reason(status: int) -> str:
    return http.client.responses.get(status, "without a reason")

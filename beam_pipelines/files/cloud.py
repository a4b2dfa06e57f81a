"""Google Cloud as a build meets it: the account that is logged in, and refusals as sentences with a cure."""

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
    """The google.auth credentials that are set up: of a file, of gcloud's login, or of a machine in the cloud.

    Raises:
      google.auth.exceptions.DefaultCredentialsError: there is none; raised within seconds.
    """
    # Elsewhere nothing answers at the address of the cloud's metadata server: three questions of three seconds each
    # would be a stall. They are read when google.auth looks there for the first time.
    os.environ.setdefault("GCE_METADATA_TIMEOUT", "2")
    os.environ.setdefault("GCE_METADATA_DETECT_RETRIES", "1")
    import google.auth

    credentials, _ = google.auth.default(scopes=scopes)
    return credentials


def check_login(*paths: str) -> None:
    """Raises BuildError where one of `paths` is in a bucket and no Google account is set up: Beam looks for one for
    20 s, and then continues without. An emulator needs none.
    """
    remote = [path for path in paths if path.startswith("gs://")]
    if not remote or "STORAGE_EMULATOR_HOST" in os.environ:
        return
    from google.auth.exceptions import DefaultCredentialsError

    try:
        find_account()
    except DefaultCredentialsError as error:
        raise BuildError(f"{remote[0]}: there is no Google account to use it with; {LOGIN}") from error


@contextlib.contextmanager
def errors(path: str) -> Iterator[None]:
    """Turns what the cloud answers about `path`, and that nothing answers, into a BuildError with a cure; other errors
    pass. What may pass by itself the clients have asked again, with backoff, before it comes here.
    """
    try:
        yield
    except Exception as error:
        refused = refusal(path, error)
        if refused is None:
            raise
        raise refused from error


def refusal(path: str, error: BaseException) -> BuildError | None:
    """What `error` of a google client or of Beam says about `path`; None where it comes from elsewhere."""
    answer = _answer(error)
    if answer is None:
        return None
    status, said = answer
    found = f"the storage answered {status}, {said}" if status else f"the storage can't be reached, {said}"
    return BuildError(f"{path}: {found}; {refusal_of_status(status).read}")


def status_of(error: BaseException) -> int | None:
    """The HTTP status that `error` of a google client or of Beam stands for; 401 where there are no credentials."""
    answer = _answer(error)
    return answer[0] if answer else None


def _answer(error: BaseException) -> tuple[int, str] | None:
    """(HTTP status, what was said); NO_ANSWER if none came, and None if the error comes from elsewhere."""
    if type(error).__name__ in _NO_ACCOUNT:
        return 401, first_line(error)
    # What Beam's errors are about, by file: for batches a bare status. And the last error of a client that gave up.
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
    """The message of the answer, without the request, which the user did not write."""
    with contextlib.suppress(AttributeError, LookupError, TypeError, ValueError):
        return first_line(error.response.json()["error"]["message"])  # type: ignore[attr-defined]
    return re.sub(r"^(\d{3} )?([A-Z]+ \S+: )?|: \('Request failed.*", "", first_line(error))


def _reason(status: int) -> str:
    return http.client.responses.get(status, "and no more")

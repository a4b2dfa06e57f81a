"""The Google account, and Google's errors as one sentence each."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
from collections.abc import Iterator, Mapping

from google.api_core.exceptions import GoogleAPICallError, GoogleAPIError
from google.auth.credentials import Credentials
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, TransportError
from requests.exceptions import RequestException

from beam_pipelines.errors import first_line
from beam_pipelines.files.cloud import find_account
from beam_pipelines.files.refusals import LOGIN
from launch.errors import LaunchError

__all__ = ["LOGIN", "google_errors", "login"]

_SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
_UNREACHABLE = (GoogleAPIError, TransportError, RequestException, ConnectionError, TimeoutError, socket.gaierror)


def login() -> Credentials:
    """The credentials that the environment is set up with. Sends no request.

    Raises:
      LaunchError: there are none, or their file cannot be read.
    """
    logging.getLogger("google.auth").setLevel(logging.ERROR)  # its warnings repeat the errors below
    try:
        return find_account(_SCOPES)
    except DefaultCredentialsError as error:
        path = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
        if path:
            raise LaunchError(
                f"GOOGLE_APPLICATION_CREDENTIALS={path} is not a credentials file, {first_line(error)}; {LOGIN} to "
                "another file"
            ) from error
        raise LaunchError(f"no Google account is set up; {LOGIN}") from error


@contextlib.contextmanager
def google_errors(subject: str, cures: Mapping[int, str], if_unreachable: str = "; try again later") -> Iterator[None]:
    """Turns the errors of Google's clients into a LaunchError about `subject`.

    Args:
      cures: HTTP status -> what to do about it.
      if_unreachable: end of the sentence if Google could not be reached.
    """
    try:
        yield
    except GoogleAPICallError as error:
        status = int(error.code or 0)
        default = "try again later" if status >= 500 else "fix this and run the same command again"
        cure = cures.get(status, default)
        raise LaunchError(f"{subject}: Google answered {status}, {_message(error)}; {cure}") from error
    except _UNREACHABLE as error:
        raise LaunchError(f"{subject}: Google could not be reached, {first_line(error)}{if_unreachable}") from error
    except GoogleAuthError as error:
        raise LaunchError(f"{subject}: Google rejected the account, {first_line(error)}; {LOGIN}") from error


def _message(error: GoogleAPICallError) -> str:
    """The message in Google's answer, without the request that the client puts before it."""
    try:
        return str(error.response.json()["error"]["message"])
    except (AttributeError, KeyError, TypeError, ValueError):
        return re.sub(r"^[A-Z]+ \S+: ", "", first_line(error.message))

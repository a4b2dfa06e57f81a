"""The Google account: found without a stall; and what Google answers, as one sentence with a cure."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator, Mapping

from google.api_core.exceptions import GoogleAPICallError, GoogleAPIError
from google.auth.credentials import Credentials
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, TransportError

from beam_pipelines.errors import first_line
from beam_pipelines.files.cloud import LOGIN, find_account
from launch.errors import LaunchError

_SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]


def login() -> Credentials:
    """The account that the environment names, not asked anything yet.

    Raises:
      LaunchError: there is none, or its file can't be read.
    """
    logging.getLogger("google.auth").setLevel(logging.ERROR)  # it warns of what the error below says
    try:
        return find_account(_SCOPES)
    except DefaultCredentialsError as error:
        named = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
        if named:
            raise LaunchError(
                f"GOOGLE_APPLICATION_CREDENTIALS={named} is no account's file, {first_line(error)}; {LOGIN} to another"
            ) from error
        raise LaunchError(f"there is no Google account to submit with; {LOGIN}") from error


@contextlib.contextmanager
def google_errors(what: str, cures: Mapping[int, str], doubt: str = "") -> Iterator[None]:
    """Turns what Google answers about `what` into a LaunchError with the cure of its HTTP status. `doubt` is added
    where it can't be reached.
    """
    try:
        yield
    except GoogleAPICallError as error:
        cure = cures.get(int(error.code or 0), "mend that and start the same command again")
        raise LaunchError(f"{what}: Google answered {error.code}, {_message(error)}; {cure}") from error
    except (GoogleAPIError, TransportError, OSError) as error:  # a RetryError, and what requests raises
        raise LaunchError(f"{what}: Google can't be reached, {first_line(error)}{doubt}") from error
    except GoogleAuthError as error:
        raise LaunchError(f"{what}: the Google account was refused, {first_line(error)}; {LOGIN}") from error


def _message(error: GoogleAPICallError) -> str:
    """Google's own words, without the request, which the user did not write, and what its client makes of them."""
    try:
        return str(error.response.json()["error"]["message"])
    except (AttributeError, KeyError, TypeError, ValueError):
        return re.sub(r"^[A-Z]+ \S+: ", "", first_line(error.message))

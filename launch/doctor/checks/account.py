"""The account that sends the requests: whether it is set up and accepted by Google, and its name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.auth.credentials import Credentials
from google.auth.transport.requests import AuthorizedSession, Request

from launch.account import google_errors, login
from launch.doctor.check import Session
from launch.doctor.findings import OK, Finding
from launch.doctor.google import CURES, SECONDS, Google
from launch.errors import LaunchError


def check_account(session: Session) -> Iterator[Finding]:
    """Logs in, and gives the session Google's services for this account.

    Raises:
      LaunchError: no account is set up, or Google rejects it.
    """
    project, endpoint = session.settings.project, session.settings.endpoint
    credentials = login()
    with google_errors("a token for the account", CURES):
        credentials.refresh(_request_with_timeout)
    name = getattr(credentials, "service_account_email", None)
    if name is None:
        name = _email(credentials, endpoint)
        if project:  # Google requires a project for the requests of a person's account
            credentials = credentials.with_quota_project(project)
    session.account = Google(credentials, endpoint)
    yield Finding(OK, name)


def _email(credentials: Credentials, endpoint: str | None) -> str:
    """The address of a person's account, whose credentials do not contain it."""
    base = endpoint or "https://oauth2.googleapis.com"
    try:
        with google_errors("oauth2.googleapis.com", CURES):
            answer = AuthorizedSession(credentials).post(
                f"{base}/tokeninfo", data={"access_token": credentials.token}, timeout=SECONDS
            )
        return str(answer.json()["email"])
    except (LaunchError, ValueError, KeyError, TypeError):
        return "a user account (Google did not return its address)"


def _request_with_timeout(*args: Any, **options: Any) -> Any:
    """google.auth's request, whose default timeout is two minutes."""
    return Request()(*args, **options | {"timeout": SECONDS})

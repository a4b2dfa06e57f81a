"""Sends requests to Google's services, once and with a short timeout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.api_core.exceptions import Forbidden, from_http_response
from google.auth.credentials import Credentials
from google.auth.transport.requests import AuthorizedSession

from launch.account import LOGIN, google_errors
from launch.errors import LaunchError

SECONDS = 5.0  # timeout of a request
CURES = {
    401: LOGIN,
    403: "ask for the role Viewer in the project, and make sure that serviceusage.googleapis.com is enabled",
    404: "check --project and --region",
}


class AccessDeniedError(LaunchError):
    """The account has no access to what a check needs. The job may still succeed with its own account."""


@dataclass(frozen=True)
class Google:
    """Google's services as one account sees them. `endpoint` stands in for https://SERVICE.googleapis.com."""

    credentials: Credentials
    endpoint: str | None = None

    def get(self, service: str, path: str) -> dict[str, Any]:
        """The JSON answer to a GET request.

        Raises:
          AccessDeniedError: the account has no access.
          LaunchError: the request was refused for another reason, or Google could not be reached.
        """
        url = f"{self.endpoint or f'https://{service}.googleapis.com'}/{path}"
        try:
            with google_errors(f"{service}.googleapis.com", CURES), AuthorizedSession(self.credentials) as session:
                answer = session.get(url, timeout=SECONDS)
                if answer.status_code >= 400:
                    raise from_http_response(answer)
                return dict(answer.json())
        except LaunchError as error:
            if isinstance(error.__cause__, Forbidden):
                raise AccessDeniedError(str(error)) from error
            raise

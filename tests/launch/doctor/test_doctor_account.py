"""The account that asks."""

from __future__ import annotations

import pytest
from google.api_core.exceptions import RetryError, ServiceUnavailable
from google.oauth2.credentials import Credentials

from launch.account import google_errors
from launch.doctor.check import Session
from launch.doctor.checks import account, apis
from launch.doctor.findings import Finding
from launch.doctor.options import parse
from launch.errors import LaunchError
from tests.support.diagnosis import OWN_TRAINER, asked, found_by
from tests.support.fake_google import FakeGoogle


def test_an_account_file_that_is_not_there_is_named(
    google: FakeGoogle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/account.json")
    code, found = asked(google, capsys, OWN_TRAINER)
    assert code == 1
    assert found["account"].startswith("failure GOOGLE_APPLICATION_CREDENTIALS=/nowhere/account.json is not a")
    assert found["APIs"] == "skipped needs a Google account; see the account check"


def test_a_person_is_named_and_pays_by_the_project(google: FakeGoogle, monkeypatch: pytest.MonkeyPatch) -> None:
    url = google.start()
    options = {"token_uri": f"{url}/token", "client_id": "id", "client_secret": "none"}
    monkeypatch.setattr(account, "login", lambda: Credentials(None, refresh_token="any", **options))
    session = Session(parse(["--project=street", "--job=vertex", f"--endpoint={url}"]))
    assert list(account.check_account(session)) == [Finding("ok", "ada@example.org")]
    list(apis.check_apis(session))
    assert {name.lower(): value for name, value in google.asked[-1][1].items()}["x-goog-user-project"] == "street"
    google.refusals = {"POST /token HTTP": (0, ""), "POST /tokeninfo": (400, "no")}
    (finding,) = account.check_account(session)
    assert finding.message == "a user account (Google did not return its address)"


def test_an_account_that_is_refused_is_a_failure(google: FakeGoogle, monkeypatch: pytest.MonkeyPatch) -> None:
    google.refusals = {"POST /token": (400, "invalid_grant: Token has been expired or revoked.")}
    options = {"token_uri": f"{google.start()}/token", "client_id": "id", "client_secret": "none"}
    monkeypatch.setattr(account, "login", lambda: Credentials(None, refresh_token="any", **options))
    message = found_by("account", "--project=street")["account"]
    assert message.startswith("failure a token for the account: Google rejected the account, ")
    assert "expired or revoked" in message
    assert "; log in with `gcloud auth application-default login`" in message


def test_a_client_that_gives_up_is_told_in_a_sentence() -> None:
    """The storage's asks again for two minutes."""
    last = ServiceUnavailable("the backend is down")
    with (
        pytest.raises(
            LaunchError, match=r"^gs://street: Google could not be reached, Timeout of 120\.0s exceeded, .*: 503 the"
        ),
        google_errors("gs://street", {}),
    ):
        raise RetryError("Timeout of 120.0s exceeded", last)

"""Runs checks of the doctor and reads what they found."""

from __future__ import annotations

import pytest

from launch.doctor.__main__ import main
from launch.doctor.check import Session
from launch.doctor.google import Google
from launch.doctor.options import parse
from launch.doctor.runner import run_check
from launch.doctor.table import CHECKS
from tests.support.fake_google import REGION, FakeGoogle

PLACE = ("--project=street", f"--region={REGION}")
L4 = "custom_model_training_nvidia_l4_gpus"
OWN_TRAINER = "--container=europe-west4-docker.pkg.dev/street/images/trainer:1"


def asked(google: FakeGoogle, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, str]]:
    """-> the exit code, and name -> `STATUS MESSAGE`, of the checks for Vertex AI."""
    code = main([*PLACE, "--job=vertex", f"--endpoint={google.start()}", *arguments])
    return code, told(capsys.readouterr().out)


def told(printed: str) -> dict[str, str]:
    """What the doctor printed, as name -> `STATUS MESSAGE`."""
    lines = printed.splitlines()[:-1]
    return {line[9:26].strip(): f"{line[:9].strip()} {line[26:]}" for line in lines}


def found_by(name: str, *arguments: str, google: Google | None = None) -> dict[str, str]:
    """The findings of one row of the table, as name -> `STATUS MESSAGE`."""
    row = next(check for check in CHECKS if check.name == name)
    findings = run_check(row, Session(parse(list(arguments)), google))
    return {finding.name: f"{finding.status} {finding.message}" for finding in findings}

"""A bucket on this machine."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.builds import PROJECT


@contextlib.contextmanager
def emulated(bucket: str, folder: Path) -> Iterator[str]:
    """gs://BUCKET in an emulator, with a service account in `folder` that its token server accepts."""
    command = [sys.executable, str(PROJECT / "tests" / "support" / "storage_emulator.py"), bucket]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as emulator,
        pytest.MonkeyPatch.context() as patch,
    ):
        assert emulator.stdout is not None
        ports = json.loads(emulator.stdout.readline())
        account = folder / "account.json"
        account.write_text(json.dumps(service_account(ports["token"])))
        patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{ports['storage']}")
        patch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(account))
        patch.setenv("GOOGLE_CLOUD_PROJECT", bucket)
        # Google's client asks another service about the account, in the background: nothing leaves this machine.
        patch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{ports['token']}")
        patch.setenv("NO_PROXY", "127.0.0.1,localhost")
        yield f"gs://{bucket}"
        emulator.terminate()


def service_account(token_port: int) -> dict[str, str]:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "type": "service_account",
        "project_id": "street",
        "private_key_id": "none",
        "private_key": key.decode(),
        "client_email": "tests@street.iam.gserviceaccount.com",
        "token_uri": f"http://127.0.0.1:{token_port}/token",
    }

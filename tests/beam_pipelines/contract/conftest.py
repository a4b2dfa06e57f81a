"""The decoders of PNG files, in turn."""

from __future__ import annotations

import pytest

from beam_pipelines.contract import png


@pytest.fixture(params=["imgread", "imagecodecs"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each decoder in turn; one that is not installed can't be tested."""
    if request.param == "imgread":
        pytest.importorskip("imgread", reason="imgread has no wheel for this Python")
    else:
        monkeypatch.setattr(png, "load_numpy_from_bytes", None)
    assert png.decoder() == request.param
    return str(request.param)

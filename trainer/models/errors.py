"""Errors of building a model."""

from __future__ import annotations

from beam_pipelines.contract.errors import UserError


class ModelError(UserError, ValueError):
    """Options of a model that do not exist or do not fit together; the message says how to fix them."""


class WeightsError(UserError, OSError):
    """Pretrained weights that could not be read or downloaded; the message says how to get them."""

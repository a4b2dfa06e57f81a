"""The error of training."""

from __future__ import annotations

from beam_pipelines.contract.errors import UserError


class TrainingError(UserError, ValueError):
    """Training can't start or continue with these settings or files; the message says how to fix it."""

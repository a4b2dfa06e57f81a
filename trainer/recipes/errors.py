"""The error of a recipe."""

from __future__ import annotations

from beam_pipelines.contract.errors import UserError


class RecipeError(UserError, ValueError):
    """A recipe that does not exist or can't be read, or a value in it that is wrong."""

"""What ends a launch, as a sentence for people."""

from __future__ import annotations


class LaunchError(RuntimeError):
    """A reason to stop that the user can do something about. The message says what was found and what to do."""

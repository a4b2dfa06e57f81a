"""What errors of TensorFlow and of the system mean to the one who started a command."""

from __future__ import annotations

import tensorflow as tf

# What `in_words` has words for.
KNOWN = (
    *(tf.errors.ResourceExhaustedError, tf.errors.PermissionDeniedError, tf.errors.FailedPreconditionError),
    OSError,
)


def in_words(error: Exception, less_memory: str) -> str:
    """`less_memory` is the cure where a device has too little: full disks and full memories are one error."""
    found = (str(error).splitlines() or [type(error).__name__])[0]
    if not isinstance(error, tf.errors.ResourceExhaustedError):
        return f"what is read or written can't be: {found}; mend that and start the same command again"
    if "space" in found.lower() or "quota" in found.lower():
        return f"there is no room to write: {found}; make some and start the same command again"
    return f"out of memory: {found}. {less_memory}"

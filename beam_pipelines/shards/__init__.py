"""The unit of work: planned, staged, finished, checked and published."""

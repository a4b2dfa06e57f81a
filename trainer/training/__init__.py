"""One run: devices, batches, updates, checkpoints, validation."""

"""A training run: devices, batches, updates, checkpoints, validation."""

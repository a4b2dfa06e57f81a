"""Training runs: devices, batches, updates, checkpoints, validation."""

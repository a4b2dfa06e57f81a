"""Runs the trainer on Vertex AI: as a custom job, a hyperparameter tuning job, or a rehearsal on this machine."""

"""Starts the pipeline on Dataflow and the trainer on Vertex AI."""

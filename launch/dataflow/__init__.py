"""Runs the pipeline of `beam_pipelines.build` on Google Cloud Dataflow."""

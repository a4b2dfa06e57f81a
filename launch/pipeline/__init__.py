"""Builds a data set on Dataflow and trains on it on Vertex AI, as one pipeline of Vertex AI Pipelines."""

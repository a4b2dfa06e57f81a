"""Commands that run the pipeline on Dataflow and the trainer on Vertex AI, and check what both need."""

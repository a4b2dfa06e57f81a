"""Checks what jobs on Dataflow and Vertex AI need, before they cost anything."""

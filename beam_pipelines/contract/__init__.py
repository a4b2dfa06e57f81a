"""What the pipeline and the trainer agree on: label tables, moments, records and the manifest of a data set."""

"""Street-scene segmentation data, from pictures and masks to normalized, sharded, self-describing TFRecords."""

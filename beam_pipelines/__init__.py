"""Street-scene segmentation data, from images and masks to normalized, sharded, self-describing TFRecords."""

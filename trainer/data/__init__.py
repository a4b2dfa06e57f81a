"""Reads a data set: records, order, batches, augmentation."""

"""Reads a data set: order, batches, augmentation."""

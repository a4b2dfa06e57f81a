"""Finds images, their masks and the label table."""

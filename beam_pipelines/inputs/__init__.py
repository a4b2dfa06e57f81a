"""Finds the pictures, their masks and the label table."""

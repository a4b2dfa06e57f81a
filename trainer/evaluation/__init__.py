"""Scores, their intervals, and what people look at."""

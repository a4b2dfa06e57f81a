"""Scores, their confidence intervals, and reports."""

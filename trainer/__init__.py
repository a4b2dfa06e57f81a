"""Trains, evaluates and exports segmentation models on the data sets of beam_pipelines."""

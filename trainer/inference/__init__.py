"""Trained models: their files, segmentation of pictures, SavedModels."""

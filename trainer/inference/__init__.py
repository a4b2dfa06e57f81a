"""Trained models: their files, segmentation of images, SavedModels."""

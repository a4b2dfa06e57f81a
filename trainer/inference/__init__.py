"""A trained model at work: files, segmentation of pictures, SavedModel."""

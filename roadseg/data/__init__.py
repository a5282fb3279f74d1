"""Data sets for training and evaluation, and their augmentation."""

"""What runs a model file: a file for each runtime."""

"""Video out: files, images, pipes, recordings and masks."""

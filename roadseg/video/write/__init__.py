"""Video out: films, images, pipes, recordings and masks."""

"""Video in: files, images, cameras and streams."""

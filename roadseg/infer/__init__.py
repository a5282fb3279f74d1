"""From a video or a camera to everything that is written or shown."""

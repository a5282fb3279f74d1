"""One look for every page."""

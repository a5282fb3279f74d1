"""Labelled pictures: reading them, checking them, and what their labels mean."""

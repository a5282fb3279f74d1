"""A trained model made fast on one machine, and proved to be still the same."""

"""A trained model, ours or another's, made ready to run, and proved to be still the same."""

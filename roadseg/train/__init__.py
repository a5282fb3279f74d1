"""Learning: from labelled pictures to a model file."""

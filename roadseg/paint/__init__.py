"""A class map to pixels."""

"""A frame to its class map."""

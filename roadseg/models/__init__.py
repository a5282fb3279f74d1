"""The networks, and the graph and the files that they live in."""

"""Many videos on many machines: what is done, what is half done, and who does it."""

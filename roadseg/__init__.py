"""roadseg labels road scenes in video."""

__version__ = "0.1.0"

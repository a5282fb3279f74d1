"""Optimised model files for one machine, one module per runtime."""

"""Film in and out through PyAV."""

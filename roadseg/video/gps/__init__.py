"""Where a video was recorded: from its own telemetry, or from a track beside it."""

"""What a frame is; video in (`read`) and out (`write`)."""

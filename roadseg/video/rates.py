"""The times and the frame rates that a video may have."""

from fractions import Fraction

from roadseg.errors import ConfigError

USUAL_FPS = Fraction(25)
"""Frame rate of a video that states none, and of images."""
LONGEST_S = 1e9
"""Longest time in a video that is accepted, in seconds."""
LEAST_FPS, MOST_FPS = Fraction(1, 3600), 1000
"""Range of frame rates of images."""
FINEST_FPS = 1_000_000
"""Largest denominator of a frame rate, as containers store 32 bits."""


def image_rate(fps: Fraction | float) -> Fraction:
    """Return a rate of images as containers can hold it.

    Raises:
        ConfigError: It is out of range.
    """
    if not LEAST_FPS <= fps <= MOST_FPS:
        raise ConfigError(
            f"--fps is {fps}; it must be from {LEAST_FPS} to {MOST_FPS} images a second, such as 25"
        )
    return Fraction(fps).limit_denominator(FINEST_FPS)

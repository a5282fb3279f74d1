"""How a metric is shown."""

import math

ABSENT = "absent"
"""Stands for a metric that there was nothing to measure on."""


def shown(value: float | None, form: str) -> str:
    """Return a metric in a form such as ".1%"; one that is none, or NaN, is absent."""
    return ABSENT if value is None or math.isnan(value) else format(value, form)

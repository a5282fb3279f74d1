"""Where a video's statistics lie in the data set of a batch: as Hive, Spark and DuckDB have it."""

import re
from urllib.parse import quote

FILE = "part-0.parquet"
"""File name in a partition."""
NO_DATE = "__HIVE_DEFAULT_PARTITION__"
"""What stands for a date that is not known."""
ESCAPED = re.compile(r"""[\x00-\x1f\x7f"#%'*/:=?\\{\[\]^]""")
"""Characters that Hive escapes in the value of a partition."""


def partition(dataset: str, film: str, recorded: str | None) -> str:
    """Return the name of a video's file.

    Args:
        dataset: Name of the data set.
        film: Name of the video.
        recorded: When it was recorded, as ISO 8601 has it; None if that is not known.
    """
    return _name(dataset, recorded[:10] if recorded else NO_DATE, film)


def any_date(dataset: str, film: str) -> str:
    """Return a pattern of the names that a video's file may have."""
    return _name(dataset, "*", film)


def _name(dataset: str, date: str, film: str) -> str:
    escaped = ESCAPED.sub(lambda match: quote(match[0], safe=""), film)
    return f"{dataset}/date={date}/film={escaped}/{FILE}"

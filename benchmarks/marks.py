"""What stands in a page between two marks, such as a table that a script writes there."""

from pathlib import Path


def write(page: Path, mark: str, text: str) -> None:
    """Replace what stands in a page between two marks."""
    before, _, after = split(page, mark)
    page.write_text(before + text + after, encoding="utf-8")


def split(page: Path, mark: str) -> tuple[str, str, str]:
    """Return what stands in a page up to a mark, between it and its end, and behind."""
    begin, end = f"<!-- {mark} -->\n", f"<!-- end of {mark} -->"
    before, rest = page.read_text(encoding="utf-8").split(begin)
    between, after = rest.split(end)
    return before + begin, between, end + after

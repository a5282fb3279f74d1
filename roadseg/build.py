"""What `roadseg compile` made a model file of, and for what; it is run nowhere else."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class BuildRecord:
    """The key of a compiled model: two builds with the same key are the same."""

    source_sha256: str
    """Digest of the file it was made of."""
    runtime: str
    """Runtime it was made for, a key of `roadseg.backends.BACKENDS`."""
    runtime_version: str | None
    """Version of that runtime; None in a portable file, which any version and device may run."""
    device: str | None
    """Device it was made and checked on; None in a portable file."""
    precision: str
    """Precision of its convolutions, such as int8."""
    shape: tuple[int, int, int]
    """Batch, height and width it was made and measured for."""
    fixed_shape: bool = False
    """Whether it takes no other shape."""
    frames_sha256: str | None = None
    """Digest of the film or data that it was calibrated and compared on; older records lack it."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read a record back from JSON values. Raises `TypeError` and `KeyError`."""
        batch, height, width = values["shape"]
        return cls(**{**values, "shape": (batch, height, width)})

    def difference(self, other: "BuildRecord") -> str | None:
        """Return in words what the other record has otherwise, or None where they are the same."""
        changed = [
            f"{f.name.replace('_', ' ')} was {_short(mine)} and is {_short(theirs)}"
            for f in fields(self)
            if (mine := getattr(self, f.name)) != (theirs := getattr(other, f.name))
        ]
        return "; ".join(changed) or None

    def misfit(self, runtime: str, version: str, device: str) -> str | None:
        """Return in words why it must not be run by a runtime on a device, or None if it may."""
        made_for = (self.runtime, self.runtime_version, self.device)
        if self.runtime_version is None or made_for == (runtime, version, device):
            return None
        return (
            f"it was compiled for {self.runtime} {self.runtime_version} on {self.device}, and this "
            f"is {runtime} {version} on {device}"
        )


def _short(value: object) -> str:
    """Return a value as text; of a digest the beginning."""
    text = "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"{text[:12]}..." if len(text) == 64 else text

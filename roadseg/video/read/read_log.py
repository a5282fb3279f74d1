"""What a reader of a film finds, for those who tell the user."""

from dataclasses import dataclass, field
from pathlib import Path

from roadseg.video.read.card import CardGaveUp


@dataclass
class ReadLog:
    """What was found while reading.

    The reader fills it as it goes, on its own thread, and it reaches others beside the frames and
    not with them, as much of it belongs to no frame: a packet that does not decode gives none, and
    an end that is missing is known when there are no more. Who reads it when:

    - `first_pts` is there before the first frame is. The muxer needs it, as the first frame that it
      gets need not be the first of the cut: an unfinished run may have written that.
    - `damaged` is up to date for every frame that was given on, and `--strict` stops by it.
    - `left_behind` is the writer's, which adds what its format cannot hold.
    - All else is complete, and read, when the frames have run out.
    """

    first_pts: int | None = None
    """Time of the first frame of the film or cut."""
    damaged_packets: int = 0
    """Packets that could not be read or did not decode."""
    damaged_frames: int = 0
    """Frames that the decoder patched up."""
    first_damage_s: float | None = None
    """Time of the first of either, where known."""
    unreadable: list[Path] = field(default_factory=list)
    """Images that were left out."""
    retimed_frames: int = 0
    """Frames without a time, or with one that does not increase."""
    resized_frames: int = 0
    """Frames of another size than the first, brought to its size."""
    interlaced_frames: int = 0
    """Frames of two fields, taken half a frame's time apart."""
    jumps_s: list[float] = field(default_factory=list)
    """Times, as bridged, at which the film's clock restarts or jumps."""
    has_late_stream: bool = False
    """Whether a stream appeared after the beginning, as GPS of some cameras does."""
    left_behind: list[str] = field(default_factory=list)
    """What else the film has and the output lacks, in sentences."""
    read_until_s: float | None = None
    """Time at which the last frame read ends."""
    reached_end: bool = False
    """Whether the file was read to its end."""
    decoder: str = "the CPU"
    """What decoded the last frame."""
    on_card: bool = False
    """Whether a card decodes now. It gives up at the first damage."""
    off_card: str | None = None
    """Why a card that was to decode did not, or not to the end."""

    @property
    def damaged(self) -> bool:
        """Whether anything was damaged."""
        return bool(self.damaged_packets or self.damaged_frames or self.unreadable)

    def note_damage(self, time_s: float | None) -> None:
        """Keep the time of the first damage. Raises `CardGaveUp` where another decoder can try."""
        if self.on_card:
            raise CardGaveUp("it met what it does not decode")
        if self.first_damage_s is None:
            self.first_damage_s = time_s

    def hand_over(self, reason: str, time_s: float) -> None:
        """Note that a card gave up after a time, and leave it to the CPU to count the damage."""
        self.damaged_packets = self.damaged_frames = 0
        self.decoder = "the CPU"
        self.off_card = reason if time_s < 0 else f"{reason} after {time_s:.2f} s"

    def forget_faults(self) -> None:
        """Begin anew, where a film is read again from its beginning."""
        self.damaged_packets = self.damaged_frames = self.retimed_frames = 0
        self.first_damage_s, self.jumps_s = None, []

    def note_late_stream(self) -> None:
        """Keep that there was one."""
        self.has_late_stream = True

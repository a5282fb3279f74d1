"""Log of the faults and facts found while a video is read."""

from dataclasses import dataclass, field
from pathlib import Path

from roadseg.video.read.gpu_decoder import GpuGaveUp


@dataclass
class ReadLog:
    """Faults and facts found while reading.

    The reader fills it on its own thread. It is shared between threads rather than attached to
    frames, as much of it belongs to none: a packet that does not decode, or a missing end. What is
    valid when:

    - `first_pts` is set before the first frame is yielded. The muxer needs it, as the first frame
      that it gets need not be the first of the cut: an unfinished run may have written that.
    - `damaged` is up to date with every frame that is yielded; `--strict` stops by it.
    - `left_behind` belongs to the writer, which adds what its format cannot hold.
    - Everything else is complete, and read, after the last frame.
    """

    first_pts: int | None = None
    """Time of the first frame of the video or cut."""
    damaged_packets: int = 0
    """Packets that could not be read or did not decode."""
    damaged_frames: int = 0
    """Frames that the decoder concealed errors in."""
    first_damage_s: float | None = None
    """Time of the first of either, if known."""
    unreadable: list[Path] = field(default_factory=list)
    """Images that could not be read."""
    torn: list[Path] = field(default_factory=list)
    """Images of which a part is missing."""
    retimed_frames: int = 0
    """Frames without a time, or with one that does not increase."""
    hidden_frames: int = 0
    """Frames that an edit list hides between others."""
    resized_frames: int = 0
    """Frames of another size than the first, resized to it."""
    interlaced_frames: int = 0
    """Interlaced frames."""
    jumps_s: list[float] = field(default_factory=list)
    """Times on the continuous clock at which the video's own clock restarts or jumps."""
    has_late_stream: bool = False
    """Whether a stream appeared after the beginning, such as a camera's GPS."""
    left_behind: list[str] = field(default_factory=list)
    """What the output lacks of the video, in sentences."""
    read_until_s: float | None = None
    """Time at which the last frame read ends."""
    last_packet: int = 0
    """Offset in the file of the last packet that was read."""
    reached_end: bool = False
    """Whether the file was read to its end."""
    decoder: str = "the CPU"
    """What decoded the last frame."""
    on_gpu: bool = False
    """Whether a GPU decodes now. It gives up at the first damage."""
    off_gpu: str | None = None
    """Why a GPU that was to decode did not, or not to the end."""

    @property
    def damaged(self) -> bool:
        """Whether anything was damaged."""
        return bool(self.damaged_packets or self.damaged_frames or self.unreadable or self.torn)

    def note_damage(self, time_s: float | None) -> None:
        """Keep the time of the first damage. Raises `GpuGaveUp` where another decoder can try."""
        if self.on_gpu:
            raise GpuGaveUp("it met what it does not decode")
        if self.first_damage_s is None:
            self.first_damage_s = time_s

    def hand_over(self, reason: str, time_s: float) -> None:
        """Note that a GPU gave up after a time, and leave it to the CPU to count the damage."""
        self.damaged_packets = self.damaged_frames = 0
        self.decoder = "the CPU"
        self.off_gpu = reason if time_s < 0 else f"{reason} after {time_s:.2f} s"

    def forget_faults(self) -> None:
        """Forget faults, as the video is read again from its beginning."""
        self.damaged_packets = self.damaged_frames = self.retimed_frames = 0
        self.hidden_frames, self.first_damage_s, self.jumps_s = 0, None, []

    def note_late_stream(self) -> None:
        """Note a stream that appeared late."""
        self.has_late_stream = True

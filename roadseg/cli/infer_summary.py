"""What `roadseg infer` says of a video that it labelled."""

from typing import TYPE_CHECKING

from roadseg.cli.console import LEAST_SHOWN_SHARE, counted, shares_said
from roadseg.infer.config import InferConfig
from roadseg.segmentation.config import CPU
from roadseg.video.write.encoding import STDOUT

if TYPE_CHECKING:
    from roadseg.infer.offline import InferResult

LEAST_LISTED_SHARE = 0.0005
"""Least share of a class in its table."""


def show_result(result: "InferResult", config: InferConfig, *, verbose: bool) -> None:
    """Print how a run went, and what is in the video."""
    from roadseg.cli.tables import class_share_table, plain_console, stage_table

    console = plain_console(stderr=config.out == STDOUT)
    name = "standard output" if config.out == STDOUT else config.out or config.source
    shown = _what_is_hidden(result) if config.redaction else f"in view: {_what_is_in_view(result)}"
    lines = [f"{name}: {_how_it_went(result)}", shown]
    if beside := config.written_beside:
        written = "also written" if config.out else "written"
        lines.append(f"{written}: {', '.join(map(str, beside))}")
    for line in lines:
        console.print(line, soft_wrap=True)
    if verbose:
        shares = {n: s for n, s in result.class_shares.items() if s >= LEAST_LISTED_SHARE}
        console.print(class_share_table(shares, result.colors))
        console.print(stage_table(result.stages, result.bottleneck))


def _how_it_went(result: "InferResult") -> str:
    """Return the speed of a run, and how many of its frames the network predicted."""
    labelled = result.frames - result.kept_frames
    predicted = (
        "every frame"
        if result.network_frames == labelled
        else counted(result.network_frames, "frame")
    )
    height, width = result.network_hw
    place = "" if result.device == CPU else f"; frames on {result.device}, from {result.decoder}"
    if place and result.encoder and not result.hardware_encoder:
        place += f" to {result.encoder}"
    encoded = f"; encoded by {result.hardware_encoder}" if result.hardware_encoder else ""
    frames = counted(result.frames, "frame")
    return (
        f"{frames} in {result.wall_s:.1f} s, {result.fps:.1f} fps; network at "
        f"{width}x{height} on {predicted}{place}{encoded}"
    )


def _what_is_hidden(result: "InferResult") -> str:
    """Say how much of the video `roadseg redact` covered."""
    return f"hidden: {sum(result.class_shares.values()):.1%} of the picture, on average"


def _what_is_in_view(result: "InferResult") -> str:
    """Say what share of the video each class has, the largest first."""
    shown = shares_said(result.class_shares)
    ignored = 1 - sum(result.class_shares.values()) - result.unsure_share
    for what, share in (("unsure", result.unsure_share), ("ignored", ignored)):
        if share >= LEAST_SHOWN_SHARE:
            shown.append(f"{what} {share:.0%}")
    return ", ".join(shown) or "nothing"


def as_json(result: "InferResult") -> dict[str, object]:
    """Return the result of a run as JSON values."""
    from dataclasses import asdict

    return {
        "out": None if result.out is None else str(result.out),
        "frames": result.frames,
        "kept_frames": result.kept_frames,
        "network_frames": result.network_frames,
        "wall_s": round(result.wall_s, 3),
        "fps": round(result.fps, 3),
        "network_size": {"height": result.network_hw[0], "width": result.network_hw[1]},
        "device": result.device,
        "decoder": result.decoder,
        "encoder": result.encoder,
        "bottleneck": result.bottleneck,
        "hardware_encoder": result.hardware_encoder,
        "stages": [asdict(stats) for stats in result.stages],
        "class_shares": result.class_shares,
        "unsure_share": result.unsure_share,
        "warnings": list(result.warnings),
    }

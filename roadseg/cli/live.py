"""`roadseg live`."""

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roadseg.cli.console import counted, echo
from roadseg.cli.option_groups import OptionGroup, grouped
from roadseg.cli.options import AsJson, ModelOptions, MotionOptions, OverlayOptions
from roadseg.errors import ConfigError
from roadseg.infer.config import LiveConfig

if TYPE_CHECKING:
    from rich.console import Console

    from roadseg.infer.live import LiveSession, LiveSummary
    from roadseg.infer.server import PageServer


class ViewOptions(OptionGroup):
    """The view."""

    panel = "View"
    serve: Annotated[
        bool | None,
        typer.Option(
            "--serve/--no-serve",
            help="Show the view as a page in the browser.",
            show_default="where OpenCV has no window",
        ),
    ] = None
    listen: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT",
            help="Where the page is. A host that others can reach puts a token in its address.",
        ),
    ] = "127.0.0.1:8620"
    as_camera: Annotated[
        bool,
        typer.Option(
            "--as-camera", help="Play a video file at its own rate and drop what comes too late."
        ),
    ] = LiveConfig.as_camera
    loop: Annotated[
        bool,
        typer.Option(
            "--loop",
            help="Begin a video file again at its end, until Ctrl-C. While nobody watches its "
            "page, it waits, unless it is recorded.",
        ),
    ] = LiveConfig.loop


class RecordingOptions(OptionGroup):
    """The recording."""

    panel = "Recording"
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Video to record the overlay to."),
    ] = LiveConfig.out
    segment: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Record videos of this length, numbered on: OUT-0001.mp4.",
            show_default="one video",
        ),
    ] = LiveConfig.segment_s
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a recording that exists.")
    ] = LiveConfig.overwrite

    def settings(self) -> dict[str, Any]:
        """Return the fields of a `LiveConfig` that they set."""
        return {"out": self.out, "segment_s": self.segment, "overwrite": self.overwrite}


class TerminalOptions(OptionGroup):
    """Messages about the run."""

    panel = "Terminal"
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet", "-q", help="Say nothing but the page's address, errors and warnings."
        ),
    ] = False
    as_json: AsJson = False


@grouped
def live(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Camera (0, /dev/video0 or a part of its name), address of a stream (rtsp://..., "
            "http://...) or video file.",
        ),
    ],
    view: ViewOptions,
    recording: RecordingOptions,
    overlay: OverlayOptions,
    model: ModelOptions,
    motion: MotionOptions,
    terminal: TerminalOptions,
) -> None:
    """Label what a camera sees now: the newest frame wins. Ctrl-C ends it, recording kept."""
    from roadseg.cli.tables import plain_console
    from roadseg.infer.live import LiveSession

    config = LiveConfig(
        source=source,
        as_camera=view.as_camera,
        loop=view.loop,
        **recording.settings(),
        **overlay.settings(),
        **model.settings(),
        **motion.settings(),
    )
    console = plain_console(stderr=True)
    with contextlib.ExitStack() as stack:
        wants_page = _wants_page(view.serve, recording.out)
        page = _open_page(stack, config, view.listen) if wants_page else None

        def notify(notice: str) -> None:
            console.print(notice, soft_wrap=True)
            if page:
                page.notify(notice)

        session = LiveSession(config, notify)
        if page:
            echo(f"open {page.url}", err=True)
        try:
            _watch(session, config, page, console, quiet=terminal.quiet or terminal.as_json)
        finally:  # Ctrl-C is the usual end
            _show(session.summary(), terminal)


def _wants_page(serve: bool | None, out: Path | None) -> bool:
    """Return whether to serve the page; raise `ConfigError` if there is no output at all."""
    from roadseg.infer.window import has_window

    if serve is False and not has_window() and out is None:
        raise ConfigError(
            "--no-serve leaves nothing to see: there is no window here; name an --out"
        )
    return not has_window() if serve is None else serve


def _open_page(stack: contextlib.ExitStack, config: LiveConfig, listen: str) -> "PageServer":
    from roadseg.infer.server import Address, PageServer
    from roadseg.video.read.capture import parse_source

    label = parse_source(config.source).label
    return stack.enter_context(PageServer(Address.parse(listen), label, config))


def _watch(
    session: "LiveSession",
    config: LiveConfig,
    page: "PageServer | None",
    console: "Console",
    *,
    quiet: bool,
) -> None:
    """Show every frame on the page or in the window, and the rate on the terminal."""
    from rich.progress import Progress, TextColumn

    from roadseg.infer.window import Window, has_window

    waiting = page if config.loop and not config.out else None
    with contextlib.ExitStack() as stack:
        if waiting:
            waiting.wait_for_viewer()
        stack.enter_context(session)
        window = stack.enter_context(Window(config)) if not page and has_window() else None
        hidden = quiet or not console.is_terminal
        columns = TextColumn("{task.description}", markup=False)
        progress = Progress(columns, console=console, transient=True, disable=hidden)
        task = stack.enter_context(progress).add_task("waiting for the first frame")
        for item, reading in session:
            progress.update(task, description=", ".join(reading.lines))
            if page:
                page.show(item, reading)
            if waiting and not config.as_camera:  # whose film goes on, as a camera would
                waiting.wait_for_viewer()
            if window and not window.show(item, reading):
                break


def _show(summary: "LiveSummary", terminal: TerminalOptions) -> None:
    if not summary.frames:
        return
    if terminal.as_json:
        echo(json.dumps(_as_json(summary), indent=2))
    elif not terminal.quiet:
        frames = counted(summary.frames, "frame")
        echo(
            f"{frames} in {summary.wall_s:.1f} s, {summary.dropped} dropped; the "
            f"network predicted {summary.network_frames}\n"
            f"age of the picture: {summary.age_p50_s * 1000:.0f} ms (median), "
            f"{summary.age_p95_s * 1000:.0f} ms (95 %)"
        )
        for path in summary.recorded:
            echo(f"recorded {path}")


def _as_json(summary: "LiveSummary") -> dict[str, object]:
    from dataclasses import asdict

    return asdict(summary) | {"recorded": [str(path) for path in summary.recorded]}

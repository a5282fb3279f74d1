"""The page about a data set, a pure function of its statistics."""

from collections.abc import Mapping, Sequence
from html import escape

import plotly.graph_objects as go

from roadseg.pages.layout import (
    BAR_TEXT,
    BEHIND_PX,
    Plot,
    page_html,
    pictures_html,
    plots_html,
    section_html,
)
from roadseg.spec import SegClass


def data_page(
    title: str,
    shares: Mapping[str, Mapping[str, float]],
    faults: Sequence[str],
    examples: Mapping[str, bytes],
    classes: Sequence[SegClass],
) -> str:
    """Return the page about a data set as HTML.

    Args:
        title: Heading.
        shares: Share of each class in the labelled pixels, by split and class.
        faults: Faults, a sentence each.
        examples: JPEG files of picture and label by caption.
        classes: Classes with their colours.
    """
    listed = "".join(f"<li>{escape(fault)}</li>" for fault in faults) or "<li>none</li>"
    body = plots_html([_share_plot(shares)]) + section_html("Faults", f"<ul>{listed}</ul>")
    shown = pictures_html(examples, "Examples: picture, and label over it", classes)
    return page_html(title, body + shown)


def _share_plot(shares: Mapping[str, Mapping[str, float]]) -> Plot:
    """Draw the share of each class, a bar for each split."""
    figure = go.Figure()
    for split, of_class in shares.items():
        figure.add_bar(
            x=[100 * share for share in of_class.values()],
            y=list(of_class),
            name=split,
            orientation="h",
            texttemplate="%{x:.2f}",
            **BAR_TEXT,
        )
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_layout(margin={"r": BEHIND_PX})
    return Plot(title="Share of the labelled pixels (%)", figure=figure, height_px=430)

"""The page about a data set, a pure function of what was counted."""

from collections.abc import Mapping, Sequence
from html import escape

import plotly.graph_objects as go

from roadseg.pages.layout import BAR_TEXT, LAYOUT, page_html, pictures_html
from roadseg.spec import SegClass


def data_page(
    title: str,
    shares: Mapping[str, Mapping[str, float]],
    faults: Sequence[str],
    examples: Mapping[str, bytes],
    classes: Sequence[SegClass],
) -> str:
    """Return what is in a data set as HTML.

    Args:
        title: Heading.
        shares: Share of each class in the labelled pixels, by split and class.
        faults: What is wrong, a sentence each.
        examples: JPEG files of picture and label by caption.
        classes: What the colours mean.
    """
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
    figure.update_layout(title="Share of the labelled pixels (%)", **LAYOUT)
    listed = "".join(f"<li>{escape(fault)}</li>" for fault in faults)
    below = f"<h2>Faults</h2><ul>{listed or '<li>none</li>'}</ul>" + pictures_html(
        examples, "Examples: picture, and label over it", classes
    )
    return page_html([figure], title, below=below)

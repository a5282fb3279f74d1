// Draw the figures of a run of measurements in the page's own colours, light or dark.
"use strict";

const figures = JSON.parse(document.getElementById("record").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");

function themed(layout) {
  const style = getComputedStyle(document.body);
  const [ink, line, panel] = ["--ink", "--line", "--panel"].map((name) => style.getPropertyValue(name));
  const narrow = innerWidth <= 800;
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true };
  return {
    ...layout,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: ink, family: "system-ui, sans-serif", size: narrow ? 11 : 13 },
    margin: { l: 45, r: 12, t: 10, b: 45 },
    hoverlabel: { bgcolor: panel, font: { color: ink } },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
    xaxis: { ...axis, ...layout.xaxis },
    yaxis: { ...axis, ...layout.yaxis },
  };
}

function redraw() {
  for (const [id, { data, layout }] of Object.entries(figures)) {
    Plotly.react(id, data, themed(layout), { responsive: true, displayModeBar: false });
  }
}

dark.addEventListener("change", redraw);
redraw();

// Draw a page's plots in its own colours, light or dark; each has its data and layout beside it.

const plots = new Map(
  [...document.querySelectorAll(".plot")].map((place) => [place, JSON.parse(place.nextElementSibling.textContent)]),
);
const buttons = [["toImage", "pan2d", "zoom2d", "resetScale2d"]];

function themed(layout) {
  const style = getComputedStyle(document.body);
  const [ink, line, panel] = ["--ink", "--line", "--panel"].map((name) => style.getPropertyValue(name));
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true };
  return {
    ...layout,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: ink, family: "system-ui, sans-serif", size: innerWidth <= 800 ? 11 : 13 },
    margin: { l: 45, r: 12, t: 30, b: 45, ...layout.margin }, // the buttons have room above
    hoverlabel: { bgcolor: panel, font: { color: ink } },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, ...layout.legend },
    xaxis: { ...axis, ...layout.xaxis },
    yaxis: { ...axis, ...layout.yaxis },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: line, activecolor: ink },
  };
}

function shaded(trace) {
  const panel = getComputedStyle(document.body).getPropertyValue("--panel");
  return trace.type === "heatmap" ? { ...trace, colorscale: [[0, panel], [1, "#2a78b5"]] } : trace;
}

function draw() {
  for (const [place, { data, layout }] of plots) {
    Plotly.react(place, data.map(shaded), themed(layout), { responsive: true, displaylogo: false, modeBarButtons: buttons });
  }
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
draw();

// Draw a drive's report from its record; everything that is clicked jumps to a time in the film.

const $ = (id) => document.getElementById(id);
const record = JSON.parse($("record").textContent);

function jump(time_s) {
  $("film").currentTime = time_s;
  $("film").scrollIntoView({ block: "nearest", behavior: "smooth" });
}

function clock(time_s) {
  const whole = Math.floor(time_s);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

function tile(image, text, time_s) {
  const button = Object.assign(document.createElement("button"), { type: "button" });
  const label = Object.assign(document.createElement("span"), { textContent: text });
  button.append(Object.assign(document.createElement("img"), { src: image, alt: "" }), label);
  button.addEventListener("click", () => jump(time_s));
  return button;
}

function span({ start_s, end_s }) {
  const until = clock(end_s) === clock(start_s) ? "" : `–${clock(end_s)}`;
  return `${clock(start_s)}${until}`;
}

function describe(moment) {
  return `${span(moment)} ${moment.names.join(", ")}`;
}

const BAR = 0.03; // height of a row of bars above the curves; each kind has a row of its own

function bars(times, color, row) {
  return times.map(({ start_s, end_s }) => ({
    type: "rect", yref: "paper", x0: start_s, x1: end_s, y0: 1 + row * BAR, y1: 1 + (row + 1) * BAR, fillcolor: color, line: { width: 0 },
  }));
}

function curves() {
  return record.classes.map(([name, color], id) => ({
    name,
    x: record.times_s,
    y: record.shares[id],
    stackgroup: "classes",
    mode: "lines",
    line: { width: 0, color },
    fillcolor: color,
    hovertemplate: "%{y:.1%}",
  })).reverse(); // so that sky is above and road below
}

function layout() {
  const ink = getComputedStyle(document.body).getPropertyValue("--ink");
  const now = $("film").currentTime;
  const head = { type: "line", yref: "paper", x0: now, x1: now, y0: 0, y1: 1 + 2 * BAR, line: { color: ink, width: 2 } };
  return themed({
    margin: { t: 20 },
    hovermode: "x unified",
    legend: { y: -0.12, yanchor: "top", bgcolor: "rgba(128, 128, 128, 0.3)", traceorder: "reversed" },
    xaxis: { ticksuffix: " s", ticklabelstandoff: 6, range: [0, record.times_s.at(-1)] },
    yaxis: { tickformat: ".0%", range: [0, 1] },
    shapes: [...bars(record.moments, "#d1495b", 0), ...bars(record.out_of_depth, "#8a8a8a", 1), head],
  });
}

const EARLY_TO_LATE = [[0, "#4a7fd0"], [0.5, "#35a58a"], [1, "#e0902f"]]; // legible on light and on dark

// Positions in metres from the middle of the way, north up: no map service is asked.
function inMetres() {
  const places = record.way.parts.flat();
  const middle = (values) => (Math.min(...values) + Math.max(...values)) / 2;
  const north = middle(places.map(([, latitude]) => latitude));
  const east = middle(places.map(([, , longitude]) => longitude));
  const degree_m = 111_320;
  return record.way.parts.map((part) => part.map(([time_s, latitude, longitude]) => ({
    time_s,
    x: (longitude - east) * degree_m * Math.cos((north * Math.PI) / 180),
    y: (latitude - north) * degree_m,
    text: `${clock(time_s)}<br>${latitude.toFixed(5)}, ${((longitude + 540) % 360 - 180).toFixed(5)}`,
  })));
}

function placeAt(time_s) {
  for (const part of way) {
    const after = part.findIndex((place) => place.time_s >= time_s);
    if (after === 0 && part[0].time_s === time_s) return part[0];
    if (after <= 0) continue;
    const [one, other] = [part[after - 1], part[after]];
    const share = (time_s - one.time_s) / (other.time_s - one.time_s);
    return { time_s, x: one.x + share * (other.x - one.x), y: one.y + share * (other.y - one.y) };
  }
  return null;
}

function marks(places, name, marker, hovertemplate) {
  return { x: places.map(({ x }) => x), y: places.map(({ y }) => y), customdata: places.map(({ time_s }) => time_s), text: places.map(({ text }) => text), name, mode: "markers", marker, hovertemplate };
}

function wayTraces() {
  const style = getComputedStyle(document.body);
  const [ink, soft, panel] = ["--ink", "--soft", "--panel"].map((name) => style.getPropertyValue(name));
  const places = way.flat();
  const last_s = record.times_s.at(-1);
  const gaps = way.flatMap((part) => [...part, { x: null, y: null }]);
  const line = { x: gaps.map(({ x }) => x), y: gaps.map(({ y }) => y), mode: "lines", line: { color: soft, width: 1 }, hoverinfo: "skip", showlegend: false };
  const ticks = [...new Set([0, last_s / 2, last_s].map(Math.floor))]; // as exact as a clock
  const colorbar = { tickvals: ticks, ticktext: ticks.map(clock), thickness: 12, outlinewidth: 0, len: 0.8 };
  const byTime = { color: places.map(({ time_s }) => time_s), colorscale: EARLY_TO_LATE, cmin: 0, cmax: last_s, size: 6, colorbar };
  const seen = record.moments.map((moment) => ({ ...placeAt(moment.peak_s), text: describe(moment) })).filter(({ x }) => x !== undefined);
  const here = [placeAt($("film").currentTime)].filter(Boolean);
  return [
    line,
    { ...marks(places, "by time", byTime, "%{text}<extra></extra>"), showlegend: false },
    marks(seen, "somebody on the road", { color: "#d1495b", size: 13, line: { color: panel, width: 2 } }, "%{text}<extra></extra>"),
    { ...marks(here, "the video", { symbol: "circle-open", color: ink, size: 18, line: { width: 3 } }), hoverinfo: "skip" },
  ];
}

function drawWay() {
  if (!way) return;
  const axis = { ticksuffix: " m", zeroline: false };
  const layoutOfWay = themed({
    margin: { t: 20, r: 20 },
    hovermode: "closest",
    legend: { y: -0.12, yanchor: "top" },
    xaxis: axis,
    yaxis: { ...axis, scaleanchor: "x" },
  });
  Plotly.react("way", wayTraces(), layoutOfWay, { responsive: true, displayModeBar: false });
}

function redraw() {
  Plotly.react("shares", curves(), layout(), { responsive: true, displayModeBar: false });
  drawWay();
}

$("film").src = record.film;
$("nobody").hidden = record.moments.length > 0;
if (record.people.length === 0) {
  $("nobody").textContent = "The model has no class of people that could be seen.";
  $("mark").hidden = true;
}
if (record.moments_left_out > 0) {
  $("left-out").textContent = `${record.moments_left_out} moments with less to see are left out.`;
  $("left-out").hidden = false;
}
$("moments").append(...record.moments.map((m) => tile(m.image, describe(m), m.peak_s)));
$("depth").hidden = $("depth-mark").hidden = record.out_of_depth.length === 0;
$("stretches").append(...record.out_of_depth.map((s) => tile(s.image, `${span(s)} unsure of ${Math.round(100 * s.unsure)} %`, s.start_s)));
$("thumbnails").append(...record.thumbnails.map((t) => tile(t.image, clock(t.time_s), t.time_s)));
const way = record.way && inMetres();
if (way) {
  $("map").hidden = false;
  $("way-hint").textContent = `From ${record.way.source}, north up, without a map.`;
}
redraw();
if (way) $("way").on("plotly_click", ({ points }) => points[0].customdata !== undefined && jump(points[0].customdata));
$("shares").on("plotly_click", ({ points }) => jump(points[0].x));
$("film").addEventListener("timeupdate", () => {
  Plotly.relayout("shares", { shapes: layout().shapes });
  drawWay();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

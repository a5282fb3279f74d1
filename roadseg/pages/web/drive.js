// Draw a drive's report from its record; everything that is clicked jumps to a time in the film.
"use strict";

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

function bars(times, color) {
  return times.map(({ start_s, end_s }) => ({
    type: "rect", yref: "paper", x0: start_s, x1: end_s, y0: 1, y1: 1.05, fillcolor: color, line: { color },
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
  const head = { type: "line", yref: "paper", x0: now, x1: now, y0: 0, y1: 1.05, line: { color: ink, width: 2 } };
  return themed({
    margin: { t: 20 },
    hovermode: "x unified",
    legend: { y: -0.12, yanchor: "top", bgcolor: "rgba(128, 128, 128, 0.3)", traceorder: "reversed" },
    xaxis: { ticksuffix: " s", ticklabelstandoff: 6, range: [0, record.times_s.at(-1)] },
    yaxis: { tickformat: ".0%", range: [0, 1] },
    shapes: [...bars(record.out_of_depth, "#8a8a8a"), ...bars(record.moments, "#d1495b"), head],
  });
}

function redraw() {
  Plotly.react("shares", curves(), layout(), { responsive: true, displayModeBar: false });
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
redraw();
$("shares").on("plotly_click", ({ points }) => jump(points[0].x));
$("film").addEventListener("timeupdate", () => Plotly.relayout("shares", { shapes: layout().shapes }));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

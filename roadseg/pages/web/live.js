// Ask for the newest frame, paint it, ask again: a slow viewer skips frames and never lags behind.
"use strict";

const TIMELINE_S = { least: 10, most: 120 };
const SAMPLE_EVERY_S = 0.25;
const RETRY_MS = 2000;
const UNSURE = 254; // id of what is too unsure to be shown
const STALE_S = 2; // without a new frame for so long, or for a few frames' time, the picture is old
const STALE_FRAMES = 5;
const CHECK_MS = 250;
const RECORDED_FPS = 30;
const OUTLINE = [235, 235, 235, 255];

const $ = (id) => document.getElementById(id);
const view = $("view").getContext("2d");
const painted = document.createElement("canvas");
const hidden = new Set(); // ids of classes that are switched off
const samples = []; // {time_s, shares}, oldest first
let frame = null; // {facts, picture, ids, specks}, the newest
let shown_s = 0; // when roadseg got it, by this page's clock
let resume = null; // ends the pause, while there is one
let recorder = null;

async function watch() {
  let version = "";
  for (;;) {
    if (resume) await new Promise((done) => { resume = done; });
    try {
      const response = await fetch(`frame?after=${version}`);
      if (!response.ok) throw new Error(response.statusText);
      const parts = await response.formData();
      const facts = JSON.parse(await parts.get("facts").text());
      const isOld = facts.version === version;
      version = facts.version;
      say(facts.notice || (isOld ? "No new frame for a while." : ""));
      $("label").textContent = facts.label;
      if (parts.has("picture") && !isOld && !resume) show(await decoded(facts, parts));
    } catch (error) {
      version = "";
      say(`roadseg does not answer (${error.message}); trying again.`);
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

async function decoded(facts, parts) {
  const [ids, specks] = [await inflated(parts.get("classes")), await inflated(parts.get("specks"))];
  return { facts, ids, specks, picture: await createImageBitmap(parts.get("picture")) };
}

async function inflated(part) {
  const bytes = part.stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(bytes).arrayBuffer());
}

// As the command line says, until this viewer says otherwise.
function begin({ classes, start: { alpha, outline, shown } }) {
  $("opacity").value = Math.round(100 * alpha);
  $("opacity-value").textContent = `${$("opacity").value} %`;
  $("outline").checked = outline;
  classes.forEach((_, id) => { if (!shown.includes(id)) hidden.add(id); });
}

function show(newest) {
  if (!frame) begin(newest.facts);
  frame?.picture.close();
  frame = newest;
  shown_s = performance.now() / 1000 - newest.facts.age_s;
  offerPalettes(newest.facts);
  const { fps, age_s, dropped, classes, shares, unsure } = frame.facts;
  $("fps").textContent = fps.toFixed(1);
  $("age").textContent = `${Math.round(age_s * 1000)} ms`;
  $("dropped").textContent = dropped;
  listClasses(classes, shares);
  $("unsure").textContent = `too unsure to be painted: ${percent(unsure)}`;
  paint();
  remember(shares);
  checkAge();
}

// An old picture must not pass for what is there now.
function checkAge() {
  const old_s = performance.now() / 1000 - shown_s;
  const isOld = frame !== null && old_s > Math.max(STALE_S, STALE_FRAMES / frame.facts.fps);
  $("stage").classList.toggle("stale", isOld && !resume);
  const age = old_s < 60 ? `${Math.floor(old_s)} s` : `${Math.floor(old_s / 60)} min`;
  const text = resume ? "paused" : isOld ? `${age} old` : "";
  if ($("state").textContent !== text) $("state").textContent = text;
}

function say(text) {
  if ($("notice").textContent !== text) $("notice").textContent = text;
}

// The picture, and over it the class map in the colours and with the opacity that this viewer chose.
function paint() {
  if (!frame) return;
  const { picture, facts } = frame;
  [view.canvas.width, view.canvas.height] = [picture.width, picture.height];
  view.drawImage(picture, 0, 0);
  [painted.height, painted.width] = facts.map_hw;
  const context = painted.getContext("2d");
  context.putImageData(colored(frame), 0, 0);
  view.drawImage(painted, 0, 0, picture.width, picture.height);
}

function colorOf(id) {
  const { classes, palettes } = frame.facts;
  return palettes[$("palette").value]?.[id] ?? classes[id][1];
}

function offerPalettes({ palettes }) {
  const names = Object.keys(palettes);
  if ($("palette").childElementCount === names.length + 1) return;
  $("palette").append(...names.map((name) => new Option(name, name)));
  $("palette-row").hidden = names.length === 0;
}

function colored({ ids, specks, facts: { classes, map_hw: [height, width] } }) {
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const opacity = Math.round($("opacity").value * 2.55);
  const colors = classes.map((_, id) => word(hidden.has(id) ? [0, 0, 0, 0] : [...rgb(colorOf(id)), opacity]));
  for (let i = 0; i < ids.length; i++) pixels[i] = colors[ids[i]];
  if ($("outline").checked) outline(pixels, ids, specks, width);
  return image;
}

// Neither specks nor what is too unsure have an outline, as in films.
function outline(pixels, ids, specks, width) {
  const line = word(OUTLINE);
  const region = Uint8Array.from({ length: 256 }, (_, id) => (hidden.has(id) ? 255 : id));
  for (let i = width; i < ids.length; i++) {
    const here = region[ids[i]];
    const left = i % width ? region[ids[i - 1]] : here;
    const above = region[ids[i - width]];
    if (here === UNSURE || left === UNSURE || above === UNSURE) continue;
    if (specks[i] || specks[i - width] || (i % width && specks[i - 1])) continue;
    if (here !== left || here !== above) pixels[i] = line;
  }
}

function rgb(color) {
  return [1, 3, 5].map((start) => parseInt(color.slice(start, start + 2), 16));
}

// Four bytes as the number that stands for them in memory.
function word(bytes) {
  return new Uint32Array(Uint8Array.from(bytes).buffer)[0];
}

function listClasses(classes, shares) {
  if ($("classes").childElementCount !== classes.length) {
    $("classes").replaceChildren(...classes.map(([name], id) => toggle(name, id)));
  }
  const figures = $("classes").querySelectorAll("span");
  shares.forEach((share, id) => { figures[id].textContent = percent(share); });
}

function percent(share) {
  return `${(share * 100).toFixed(1)} %`;
}

function toggle(name, id) {
  const label = document.createElement("label");
  const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: !hidden.has(id) });
  const swatch = document.createElement("i");
  swatch.style.background = colorOf(id);
  box.addEventListener("change", () => { hidden[box.checked ? "delete" : "add"](id); repaint(); });
  label.append(box, swatch, name, document.createElement("span"));
  return label;
}

function switchAll(on) {
  $("classes").querySelectorAll("input").forEach((box, id) => {
    box.checked = on;
    hidden[on ? "delete" : "add"](id);
  });
  repaint();
}

function remember(shares) {
  const time_s = performance.now() / 1000;
  if (samples.length && time_s - samples.at(-1).time_s < SAMPLE_EVERY_S) return;
  samples.push({ time_s, shares });
  while (samples[0].time_s < time_s - TIMELINE_S.most) samples.shift();
  drawTimeline();
}

// Areas below each other, one a class, in the order of the list: sky is above, road below.
function drawTimeline() {
  const canvas = $("timeline");
  const scale = window.devicePixelRatio;
  [canvas.width, canvas.height] = [canvas.clientWidth * scale, canvas.clientHeight * scale];
  if (!samples.length) return;
  const context = canvas.getContext("2d");
  const now_s = samples.at(-1).time_s;
  const span_s = Math.max(now_s - samples[0].time_s, TIMELINE_S.least);
  $("since").textContent = `${Math.round(span_s)} s ago`;
  const x = (sample) => canvas.width * (1 - (now_s - sample.time_s) / span_s);
  let top = samples.map(() => 0);
  frame.facts.classes.forEach((_, id) => {
    const floor = samples.map((sample, i) => top[i] + sample.shares[id] * canvas.height);
    context.beginPath();
    samples.forEach((sample, i) => context.lineTo(x(sample), top[i]));
    for (let i = samples.length - 1; i >= 0; i--) context.lineTo(x(samples[i]), floor[i]);
    context.fillStyle = colorOf(id);
    context.globalAlpha = hidden.has(id) ? 0.15 : 1;
    context.fill();
    top = floor;
  });
}

function repaint() {
  paint();
  drawTimeline();
}

function save(blob, suffix) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `roadseg-${new Date().toISOString().replaceAll(":", "-")}.${suffix}`;
  link.click();
  URL.revokeObjectURL(link.href);
}

function saveSnapshot() {
  view.canvas.toBlob((blob) => save(blob, "png"), "image/png");
}

// What this viewer sees, on this viewer's device: nothing is written where roadseg runs.
function record() {
  if (recorder) {
    recorder.stop();
    return;
  }
  const parts = [];
  recorder = new MediaRecorder(view.canvas.captureStream(RECORDED_FPS), { mimeType: "video/webm" });
  recorder.addEventListener("dataavailable", ({ data }) => parts.push(data));
  recorder.addEventListener("stop", () => {
    recorder = null;
    $("record").setAttribute("aria-pressed", "false");
    save(new Blob(parts, { type: "video/webm" }), "webm");
  });
  recorder.start();
  $("record").setAttribute("aria-pressed", "true");
}

function pause() {
  const paused = resume;
  resume = paused ? null : () => {};
  paused?.();
  $("pause").setAttribute("aria-pressed", String(!paused));
  checkAge();
}

function fullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else $("stage").requestFullscreen().catch(({ message }) => say(message));
}

function switchPalette() {
  $("classes").querySelectorAll("i").forEach((swatch, id) => { swatch.style.background = colorOf(id); });
  repaint();
}

const KEYS = { " ": pause, s: saveSnapshot, f: fullScreen, r: record };

function press(event) {
  const { key, target } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || target.matches("select")) return;
  if (key === " " && target.matches("button, input")) return; // which the space bar works
  if (KEYS[key]) KEYS[key]();
  else if (/^[1-9]$/.test(key)) $("classes").querySelectorAll("input")[key - 1]?.click();
  else return;
  event.preventDefault();
}

$("opacity").addEventListener("input", () => {
  $("opacity-value").textContent = `${$("opacity").value} %`;
  paint();
});
$("outline").addEventListener("change", paint);
$("all").addEventListener("click", () => switchAll(true));
$("none").addEventListener("click", () => switchAll(false));
$("snapshot").addEventListener("click", saveSnapshot);
$("pause").addEventListener("click", pause);
$("full").addEventListener("click", fullScreen);
$("record").addEventListener("click", record);
$("record").hidden = typeof MediaRecorder === "undefined";
$("full").hidden = !document.fullscreenEnabled;
$("palette").addEventListener("change", switchPalette);
document.addEventListener("keydown", press);
setInterval(checkAge, CHECK_MS);
window.addEventListener("resize", drawTimeline);
$("controls").addEventListener("submit", (event) => event.preventDefault());
watch();

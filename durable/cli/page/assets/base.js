// The parts of the page that need a script. `durable.cli.page` puts these files into one function, in this order:
// base, dialog, timeline, tree, list, start. Whatever comes from the journal is set as text (textContent, the numbers
// of SVG attributes), never as HTML.

const data = JSON.parse(document.getElementById("data").textContent);
const UNITS = 100000;
const SVG = "http://www.w3.org/2000/svg";
const runs = data.runs || [];
const nodes = data.nodes || [];
const TONES = {
  ok: "ok", cached: "cached", "rolled back": "cached", failed: "bad", "timed out": "bad", crashed: "bad", lost: "bad",
  running: "live", "running?": "live", retrying: "live", waiting: "live", cancelling: "live", pending: "live",
};
const tone = (status) => TONES[status] || "quiet";

// Small things.

function make(name, attributes, ...children) {
  const found = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === false || value === null || value === undefined) continue;
    found.setAttribute(key, value === true ? "" : value);
  }
  found.append(...children.filter((child) => child !== null && child !== undefined));
  return found;
}
function svg(name, attributes) {
  const found = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) found.setAttribute(key, value);
  return found;
}
const badge = (status) => make("span", { class: `badge ${tone(status)}` }, status);
const percent = (position) => `${position / (UNITS / 100)}%`;
const number = (value) => value.toLocaleString("en-US");

// As durable's own command line tells durations.
function duration(microseconds) {
  const seconds = microseconds / 1e6;
  const two = (value) => String(Math.floor(value)).padStart(2, "0");
  if (seconds < 0.001) return `${Math.max(0, Math.round(microseconds))} µs`;
  if (seconds < 1) return `${(seconds * 1000).toFixed(0)} ms`;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)}m${two(whole % 60)}s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)}h${two((whole % 3600) / 60)}m`;
  return `${Math.floor(whole / 86400)}d${two((whole % 86400) / 3600)}h`;
}
function bytes(count) {
  if (count < 1000) return `${count} B`;
  for (const unit of ["kB", "MB", "GB"]) {
    count /= 1000;
    if (count < 999.5 || unit === "GB") return `${count.toFixed(count < 9.95 ? 1 : 0)} ${unit}`;
  }
  return "";
}
const clock = (iso) => `${iso.slice(0, 10)} ${iso.slice(11, 23)} UTC`;

// What is looked for: words that must all occur, and statuses of which one must fit.

const haystacks = runs.map((run) =>
  [run.call, run.task, run.status, run.id, run.name, run.message, run.error, run.lane, run.reason].filter(Boolean).join("\n").toLowerCase(),
);
const filter = { words: [], statuses: new Set() };
const searching = () => filter.words.length > 0 || filter.statuses.size > 0;
const statusFits = (status, retried) =>
  filter.statuses.size === 0 || filter.statuses.has(status) || (retried && filter.statuses.has("retried"));
function matches(run) {
  const text = haystacks[run];
  return statusFits(runs[run].status, runs[run].tries > 1) && filter.words.every((word) => text.includes(word));
}
function nodeMatches(node) {
  if (node.run !== undefined) return matches(node.run);
  const text = `${node.call}\n${node.status}\n${node.id || ""}`.toLowerCase();
  return statusFits(node.status, node.retried > 0) && filter.words.every((word) => text.includes(word));
}

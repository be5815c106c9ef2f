// The timeline.

const ROWS = 24;
const bars = [];
function pack(members) {
  // Each bar in the first row that is free again: calls made in a call come to lie below it.
  const free = [];
  const placed = [];
  for (const run of members) {
    const own = runs[run].bars;
    if (!own.length) continue;
    const left = own[0][0];
    const right = Math.max(...own.map((each) => each[1]));
    let row = free.findIndex((until) => until <= left);
    if (row < 0) row = free.length;
    if (row >= ROWS) return null;
    free[row] = Math.max(right, left + UNITS / 2000);
    placed.push([run, row]);
  }
  return { placed, rows: free.length };
}
function density(lane, height, most) {
  // Above the area the retries, below it the failures, a mark for each bin that has any.
  const bins = lane.levels.length;
  const found = svg("svg", { viewBox: `0 0 ${bins} ${height + 10}`, preserveAspectRatio: "none", height: height + 10, "aria-hidden": "true" });
  const points = lane.levels.map((level, i) => {
    const y = (5 + height * (1 - Math.min(level / most, 1))).toFixed(2);
    return `L${i} ${y}L${i + 1} ${y}`;
  });
  found.append(svg("path", { class: "ok", d: `M0 ${height + 5}${points.join("")}L${bins} ${height + 5}Z` }));
  for (const [kind, y] of [["retried", 0], ["bad", height + 6]]) {
    for (const [bin, count] of lane.marks[kind] || []) {
      const mark = svg("rect", { class: kind, x: bin, width: 1, y, height: 4 });
      mark.dataset.tip = `${number(count)} ${kind === "bad" ? "failed or cut off" : "retried"}`;
      found.append(mark);
    }
  }
  return found;
}
const few = (value) => (value >= 9.95 ? value.toFixed(0) : value.toFixed(1));
function individual(packed) {
  const height = 13;
  const found = svg("svg", { height: packed.rows * height, "aria-hidden": "true" });
  for (const [index, row] of packed.placed) {
    const run = runs[index];
    run.bars.forEach(([left, right], i) => {
      const last = i === run.bars.length - 1;
      const wide = Math.max(right - left, UNITS / 1500);
      const bar = svg("rect", {
        class: `${last ? tone(run.status) : "retried"}${wide < UNITS / 250 ? " thin" : ""}`,
        x: percent(Math.min(left, UNITS - wide)), width: percent(wide), y: row * height, height: height - 3, rx: 1.5,
      });
      bar.dataset.run = index;
      bars.push(bar);
      found.append(bar);
    });
  }
  return found;
}
function timeline() {
  const box = document.getElementById("timeline-box");
  const canvas = make("div", { class: "canvas" });
  const pan = make("div", { class: "pan", role: "region", tabindex: 0, "aria-label": "Timeline: the list of task runs says the same in words" }, canvas);
  const lane = (name, told, content) =>
    canvas.append(make("div", { class: "lane" }, make("div", { class: "label", title: name }, name, make("small", {}, told)), content));
  const most = Math.max(1e-9, ...data.overall.levels);
  lane("All", `up to ${few(most)} calls at once`, density(data.overall, 56, most));
  const byLane = new Map(data.lanes.map((each) => [each.name, []]));
  const inOrder = runs.map((run, i) => i).sort((a, b) => runs[a].began - runs[b].began);
  for (const i of inOrder) byLane.get(runs[i].lane)?.push(i);
  let drawn = data.whole;
  for (const each of data.lanes) {
    const packed = data.whole ? pack(byLane.get(each.name)) : null;
    drawn = drawn && packed !== null;
    const peak = Math.max(...each.levels);
    const busy = each.levels.reduce((sum, level) => sum + Math.min(level, 1), 0) / each.levels.length;
    const told = peak > 1.05 ? `up to ${few(peak)} at once` : `${(busy * 100).toFixed(0)}% busy`;
    lane(each.name, told, packed ? individual(packed) : density(each, 18, Math.max(1, peak)));
  }
  const axis = svg("svg", { class: "axis", "aria-hidden": "true" });
  canvas.append(axis);
  const gutter = () => canvas.clientWidth - axis.clientWidth;
  const gaps = make("div", { class: "gaps" });
  data.parts.slice(1).forEach((part, i) => {
    const before = data.parts[i];
    const gap = make("i", { title: `executed by nobody for ${duration(part[0] - before[1])}` });
    gap.style.left = percent(before[3]);
    gap.style.width = percent(part[2] - before[3]);
    gaps.append(gap);
  });
  canvas.append(gaps);
  let zoom = 1;
  function ticks() {
    axis.replaceChildren();
    const wanted = Math.max(3, Math.round(axis.clientWidth / 130));
    const active = data.parts.reduce((sum, part) => sum + part[1] - part[0], 0) || 1;
    const step = nice(active / wanted);
    let free = -1;
    const tick = (at, text) => {
      const x = (at / UNITS) * axis.clientWidth;
      const end = x > axis.clientWidth - 50;
      if (x < free || (end && x - 50 < free)) return;
      free = x + 60;
      axis.append(svg("line", { x1: percent(at), x2: percent(at), y1: 0, y2: 5 }));
      const label = svg("text", { x: percent(at), y: 17, "text-anchor": end ? "end" : x < 20 ? "start" : "middle" });
      label.textContent = text;
      axis.append(label);
    };
    for (const [begin, end, left, right] of data.parts) {
      tick(left, begin === 0 ? "0" : duration(begin));
      for (let i = 1; i < 500; i++) {
        const at = i * step;
        if (at >= end - begin) break;
        tick(left + ((right - left) * at) / (end - begin), duration(begin + at));
      }
    }
  }
  function setZoom(value) {
    const middle = (pan.scrollLeft + pan.clientWidth / 2) / pan.scrollWidth;
    zoom = Math.min(64, Math.max(1, value));
    canvas.style.width = zoom === 1 ? "" : `${(pan.clientWidth - gutter()) * zoom + gutter()}px`;
    pan.scrollLeft = middle * pan.scrollWidth - pan.clientWidth / 2;
    ticks();
  }
  const control = (text, label, change) => {
    const button = make("button", { type: "button", "aria-label": label }, text);
    button.addEventListener("click", change);
    return button;
  };
  const legend = make("ul", { class: "legend" });
  const keys = drawn
    ? [["ok", "completed"], ["live", "under way"], ["retried", "attempt that failed and was retried"], ["bad", "failed or cut off"]]
    : [["ok", "calls going on"], ["retried", "retried"], ["bad", "failed or cut off"]];
  const occurs = (kind) => runs.some((run) => (kind === "retried" ? run.tries > 1 : tone(run.status) === kind));
  for (const [kind, text] of keys) {
    if (kind !== "ok" && !occurs(kind)) continue;
    const key = svg("svg", { class: "key", "aria-hidden": "true" });
    key.append(svg("rect", { class: kind, width: "100%", height: "100%" }));
    legend.append(make("li", {}, key, text));
  }
  box.append(
    make("div", { class: "bench" }, legend, make("span", { class: "space" }),
      control("−", "Zoom out", () => setZoom(zoom / 2)), control("+", "Zoom in", () => setZoom(zoom * 2)), control("Fit", "Fit the whole run", () => setZoom(1))),
    pan,
  );
  const tip = make("div", { class: "tip", hidden: true });
  document.body.append(tip);
  pan.addEventListener("mousemove", (event) => {
    const { run, tip: told } = event.target.dataset || {};
    tip.hidden = run === undefined && told === undefined;
    if (tip.hidden) return;
    const each = runs[run];
    tip.textContent = told || `${each.call}: ${each.status}${each.took === null ? "" : `, ${duration(each.took)}`}${each.tries > 1 ? `, ${each.tries} attempts` : ""}`;
    tip.style.left = `${Math.min(event.clientX + 12, innerWidth - tip.offsetWidth - 8)}px`;
    tip.style.top = `${event.clientY + 16}px`;
  });
  pan.addEventListener("mouseleave", () => (tip.hidden = true));
  pan.addEventListener("click", (event) => {
    if (event.target.dataset.run !== undefined) show(Number(event.target.dataset.run));
  });
  ticks();
  addEventListener("resize", ticks);
}
function nice(value) {
  const steps = [1, 2, 5, 10, 20, 50, 100, 200, 500].map((each) => each * 1000);
  for (const seconds of [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400]) steps.push(seconds * 1e6);
  return steps.find((step) => step >= value) || Math.ceil(value / 864e8) * 864e8;
}

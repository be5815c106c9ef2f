// The tree of calls.

const parents = [];
const children = nodes.map(() => []);
const roots = [];
const positions = []; // among its siblings, from 1
{
  const path = [];
  nodes.forEach((node, i) => {
    path.length = node.depth;
    parents[i] = node.depth ? path[node.depth - 1] : -1;
    positions[i] = (node.depth ? children[parents[i]] : roots).push(i);
    path[node.depth] = i;
  });
}
const open = new Set();
const tree = make("div", { class: "tree", role: "tree", "aria-label": "Calls, in the order they were made" });
const rest = make("p", { class: "note", hidden: true });
let current = 0;
let visible = [];
function spans(i) {
  // What a node covers on the time axis: its own bars, or those of some that it stands for.
  const node = nodes[i];
  if (node.run !== undefined) return runs[node.run].bars.map((bar, k, all) => [bar, k === all.length - 1 ? tone(node.status) : "retried"]);
  if (node.calls === 1) return [];
  return children[i].filter((child) => nodes[child].run !== undefined).slice(0, 200)
    .flatMap((child) => spans(child));
}
function waitedFor(i) {
  // Of one call the very calls, if there are few; of several the tasks.
  const node = nodes[i];
  const found = new Set();
  const members = node.run !== undefined ? [i] : node.calls > 1 ? children[i].slice(0, 50) : [];
  for (const member of members) {
    for (const each of runs[nodes[member].run]?.upstream || []) {
      if (each.run !== null) found.add(node.run !== undefined ? runs[each.run].call : runs[each.run].task);
    }
  }
  const names = [...found];
  return names.length ? `after ${names.slice(0, 2).join(", ")}${names.length > 2 ? ` and ${names.length - 2} more` : ""}` : "";
}
function row(i) {
  const node = nodes[i];
  const run = node.run === undefined ? null : runs[node.run];
  const family = children[i];
  const siblings = node.depth ? children[parents[i]] : roots;
  const expanded = family.length ? String(open.has(i) || (searching() && shownBelow.has(i))) : null;
  const what = make("span", { class: "what" });
  what.style.paddingLeft = `${Math.min(node.depth, 14) * 1.15}rem`;
  what.append(make("span", { class: "fold", "aria-hidden": true }), badge(node.status));
  if (node.calls > 1) what.append(make("span", { class: "many" }, `×${number(node.calls)}`));
  what.append(make("span", { class: "call" }, run ? run.call : node.call));
  const told = [];
  if (node.times) told.push(`median ${duration(node.times[1])}`, `p95 ${duration(node.times[2])}`);
  if (told.length) what.append(make("span", { class: "times" }, told.join(", ")));
  const retried = run ? run.tries > 1 && `${run.tries} attempts` : node.retried > 0 && node.calls > 1 && `${number(node.retried)} retried`;
  if (retried) what.append(make("span", { class: "times t-retried" }, retried));
  const upstream = waitedFor(i);
  if (upstream) what.append(make("span", { class: "times" }, upstream));
  const when = svg("svg", { class: "when", "aria-hidden": "true" });
  for (const [[left, right], kind] of spans(i)) {
    const wide = Math.max(right - left, UNITS / 150);
    when.append(svg("rect", { class: kind, x: percent(Math.min(left, UNITS - wide)), width: percent(wide), height: "100%" }));
  }
  const took = run ? run.took : node.times ? node.times[0] : node.took;
  const found = make("div", {
    class: "row", role: "treeitem", "aria-level": node.depth + 1, "aria-expanded": expanded, "aria-selected": "false",
    "aria-setsize": siblings.length, "aria-posinset": positions[i], tabindex: -1,
  }, what, when, make("span", { class: "took" }, took === null || took === undefined ? "" : duration(took)));
  found.dataset.node = i;
  return found;
}
const MOST = 1000;
let shownBelow = new Set();
function drawTree() {
  visible = [];
  shownBelow = new Set();
  let fits = null;
  if (searching()) {
    fits = new Set();
    nodes.forEach((node, i) => {
      if (!nodeMatches(node)) return;
      fits.add(i);
      for (let above = parents[i]; above >= 0 && !shownBelow.has(above); above = parents[above]) {
        // A group shows its members only once it is opened: it stands for them.
        if (nodes[above].calls > 1 && node.run !== undefined && fits.has(above) && filter.words.length === 0) break;
        shownBelow.add(above);
      }
    });
  }
  const walk = (list) => {
    for (const i of list) {
      if (fits && !fits.has(i) && !shownBelow.has(i)) continue;
      visible.push(i);
      if (open.has(i) || shownBelow.has(i)) walk(children[i]);
    }
  };
  walk(roots);
  tree.replaceChildren(...visible.slice(0, MOST).map(row));
  if (visible.length > MOST) rest.textContent = `${number(visible.length - MOST)} more lines: search to find them`;
  rest.hidden = visible.length <= MOST;
  if (!visible.length) tree.append(make("p", { class: "none" }, nodes.length ? "No call matches." : "Nothing was called."));
  if (!visible.includes(current)) current = visible[0] ?? 0;
  const focus = tree.querySelector(`[data-node="${current}"]`);
  if (focus) focus.tabIndex = 0;
}
function focusRow(i) {
  const before = tree.querySelector('[tabindex="0"]');
  if (before) before.tabIndex = -1;
  current = i;
  const found = tree.querySelector(`[data-node="${i}"]`);
  if (!found) return;
  found.tabIndex = 0;
  found.focus();
}
function fold(i, wanted) {
  if (!children[i].length || open.has(i) === wanted) return;
  if (wanted) open.add(i);
  else open.delete(i);
  drawTree();
  focusRow(i);
}
function act(i) {
  if (nodes[i].run !== undefined) show(nodes[i].run);
  else fold(i, !open.has(i));
}
tree.addEventListener("click", (event) => {
  const found = event.target.closest(".row");
  if (!found) return;
  const i = Number(found.dataset.node);
  focusRow(i);
  if (event.target.closest(".fold") && children[i].length) fold(i, !open.has(i));
  else act(i);
});
tree.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const at = visible.indexOf(current);
  const last = Math.min(visible.length, MOST) - 1;
  const keys = {
    ArrowDown: () => focusRow(visible[Math.min(at + 1, last)]),
    ArrowUp: () => focusRow(visible[Math.max(at - 1, 0)]),
    Home: () => focusRow(visible[0]),
    End: () => focusRow(visible[last]),
    ArrowRight: () => (children[current].length && !open.has(current) ? fold(current, true) : children[current].length && focusRow(visible[Math.min(at + 1, last)])),
    ArrowLeft: () => (open.has(current) ? fold(current, false) : parents[current] >= 0 && focusRow(parents[current])),
    Enter: () => act(current),
    " ": () => act(current),
  };
  if (!keys[event.key] || !visible.length) return;
  event.preventDefault();
  keys[event.key]();
});

function placeTree() {
  const note = make("p", { class: "note" }, "The tree was too long or too deep to be shown in full.");
  document.getElementById("tree-box").append(tree, rest, ...(data.cut ? [note] : []));
  // What went wrong is open to begin with.
  const wrong = nodes.map((node, i) => i).filter((i) => ["bad", "live"].includes(tone(nodes[i].status)) && nodes[i].calls === 1);
  for (const i of wrong.slice(0, 20)) {
    for (let above = parents[i]; above >= 0; above = parents[above]) if (nodes[above].calls === 1) open.add(above);
  }
}

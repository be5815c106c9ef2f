// Theme, search, and the beginning.

// The theme is the system's unless chosen; remembered where the browser lets a file remember.
const themes = ["system", "light", "dark"];
const theme = document.getElementById("theme");
function remembered() {
  try {
    return localStorage.getItem("durable-theme");
  } catch {
    return null;
  }
}
function setTheme(name) {
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  theme.textContent = `Theme: ${name}`;
  theme.dataset.now = name;
  try {
    localStorage.setItem("durable-theme", name);
  } catch {
    // A page without storage still has its theme until it is closed.
  }
}
const search = document.getElementById("search");
function apply() {
  filter.words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  pageSize = PAGE;
  const found = new Set(drawList());
  for (const bar of bars) bar.classList.toggle("dim", !found.has(Number(bar.dataset.run)));
  drawTree();
}
function chips() {
  const counts = new Map();
  for (const run of runs) {
    counts.set(run.status, (counts.get(run.status) || 0) + 1);
    if (run.tries > 1) counts.set("retried", (counts.get("retried") || 0) + 1);
  }
  const box = make("div", { class: "bench chips", role: "group", "aria-label": "Show only" });
  for (const [name, count] of counts) {
    const button = make("button", { type: "button", "aria-pressed": "false" }, `${name} ${number(count)}`);
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      if (on) filter.statuses.add(name);
      else filter.statuses.delete(name);
      apply();
    });
    box.append(button);
  }
  return box;
}

function start() {
  for (const name of ["timeline", "calls", "list"]) document.getElementById(name).hidden = false;
  let waiting = 0;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(apply, 80);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.target.closest("input, dialog") && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      search.focus();
    }
  });
  timeline();
  placeTree();
  placeList(chips());
  drawTree();
  drawList();
}

setTheme(themes.includes(remembered()) ? remembered() : "system");
theme.addEventListener("click", () => setTheme(themes[(themes.indexOf(theme.dataset.now) + 1) % themes.length]));
document.querySelector(".tools").hidden = false;
if (data.overall) start();
else search.remove();

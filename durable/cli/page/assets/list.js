// The list of task runs.

const body = make("tbody", {});
const more = make("button", { type: "button", class: "moreruns" }, "");
const PAGE = 25;
const STEP = 200;
let pageSize = PAGE;
const order = runs.map((run, i) => i);
const columns = [
  ["Status", (run) => run.status, ""],
  ["Call", (run) => run.call, "wrap"],
  ["Began", (run) => run.began, "num"],
  ["Took", (run) => (run.took === null ? -1 : run.took), "num"],
  ["Attempts", (run) => run.tries, "num"],
  ["Worker", (run) => run.lane, ""],
];
const heads = columns.map(([name, key, kind]) => {
  const button = make("button", { type: "button" }, name);
  const head = make("th", { scope: "col", class: kind || null }, button);
  button.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending" || (kind === "num" && name !== "Began" && !head.hasAttribute("aria-sort"));
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const sign = down ? -1 : 1;
    order.sort((a, b) => {
      const [x, y] = [key(runs[a]), key(runs[b])];
      return x < y ? -sign : x > y ? sign : runs[a].began - runs[b].began;
    });
    drawList();
  });
  return head;
});
const status = make("p", { class: "note", role: "status" });
function drawList() {
  const found = order.filter(matches);
  body.replaceChildren(...found.slice(0, pageSize).map((i) => {
    const run = runs[i];
    const said = run.error || run.message;
    return make("tr", {},
      make("td", {}, badge(run.status)),
      make("th", { scope: "row", class: "wrap" }, runButton(i, run.call), said ? make("span", { class: "message" }, said) : null),
      make("td", { class: "num" }, duration(run.began)),
      make("td", { class: "num" }, run.took === null ? "" : duration(run.took)),
      make("td", { class: "num" }, make("span", { class: run.tries > 1 ? "t-retried" : "" }, String(run.tries))),
      make("td", {}, run.lane));
  }));
  status.textContent = searching() ? `${number(found.length)} of ${number(runs.length)} listed task runs match` : "";
  const left = found.length - pageSize;
  more.hidden = left <= 0;
  more.textContent = `Show ${number(Math.min(left, STEP))} more of ${number(found.length)}`;
  return found;
}
more.addEventListener("click", () => {
  pageSize += STEP;
  drawList();
});

function placeList(chosen) {
  const table = make("table", {}, make("caption", { class: "hidden" }, "Task runs"), make("thead", {}, make("tr", {}, ...heads)), body);
  const scroll = make("div", { class: "scroll", role: "region", tabindex: 0, "aria-label": "Task runs" }, table);
  document.getElementById("list-box").append(chosen, status, scroll, more);
}

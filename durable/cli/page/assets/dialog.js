// The dialog with all that is known of one task run.

const dialog = make("dialog", { "aria-labelledby": "dialog-title" });
document.body.append(dialog);
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});
// Which of the task runs on the page waited for each.
const downstream = runs.map(() => []);
runs.forEach((run, i) => {
  for (const each of run.upstream || []) if (each.run !== null && !downstream[each.run].includes(i)) downstream[each.run].push(i);
});
function runButton(run, text) {
  const button = make("button", { class: "open", type: "button" }, text);
  button.addEventListener("click", () => show(run));
  return button;
}
function show(index) {
  const run = runs[index];
  const facts = make("dl", { class: "facts" });
  const fact = (name, ...value) => facts.append(make("div", {}, make("dt", {}, name), make("dd", {}, ...value)));
  fact("Status", badge(run.status));
  if (run.took !== null) fact(run.tries > 1 ? "Last attempt took" : "Took", duration(run.took));
  fact("Attempts", String(run.tries));
  if (run.waited) fact("Waited between them", duration(run.waited));
  fact("Called", `${clock(run.at)}, ${duration(run.began)} after the run began`);
  fact("Worker", run.lane);
  if (run.name) fact("Name", run.name);
  if (run.version) fact("Version", run.version);
  if (run.bytes !== undefined) fact("Result", bytes(run.bytes));
  if (run.yielded) fact("Yielded", number(run.yielded));
  fact("Id", make("code", {}, run.id));
  if (run.reason) fact("Why it ran", run.reason);
  if (run.parent !== undefined) fact("Called by", runButton(run.parent, runs[run.parent].call));
  const body = make("div", { class: "body" }, facts);
  if (run.upstream) {
    const list = make("ol", {});
    for (const each of run.upstream) {
      const other = each.run === null ? make("code", {}, each.id.slice(0, 7)) : runButton(each.run, runs[each.run].call);
      list.append(make("li", {}, other, ` for ${each.argument}`));
    }
    body.append(make("h3", {}, "Waited for"), list);
  }
  if (downstream[index].length) {
    const list = make("ol", {});
    for (const other of downstream[index].slice(0, 12)) list.append(make("li", {}, runButton(other, runs[other].call)));
    const more = downstream[index].length - 12;
    body.append(make("h3", {}, "Waited for it"), list, ...(more > 0 ? [make("p", { class: "note" }, `and ${number(more)} more`)] : []));
  }
  if (run.history && run.history.length > 1) {
    const list = make("ol", {});
    for (const each of run.history) {
      list.append(make("li", {}, `${each.state}  ${clock(each.at)}`, each.message ? make("span", { class: "more" }, each.message) : null));
    }
    body.append(make("h3", {}, "What was recorded after its call"), list);
  }
  if (run.message || run.error) body.append(make("h3", {}, "Error"), make("p", { class: "message" }, run.error || run.message));
  if (run.traceback) body.append(make("pre", { tabindex: 0 }, run.traceback));
  const close = make("button", { type: "button" }, "Close");
  close.addEventListener("click", () => dialog.close());
  dialog.replaceChildren(make("div", { class: "head" }, make("h2", { id: "dialog-title" }, run.call), close), body);
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  close.focus();
}

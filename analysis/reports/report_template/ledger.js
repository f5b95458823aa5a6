"use strict";
const form = document.getElementById("filter"), table = document.getElementById("rows");
const groups = [...table.tBodies], total = groups.length, count = form.querySelector("output");
const wanted = name => form.elements[name].value.trim().toLowerCase();
function filter() {
  let shown = 0;
  for (const group of groups) {
    const fits = ["letter", "task", "verdict"].every(key => !wanted(key) || group.dataset[key].toLowerCase() === wanted(key));
    group.hidden = !fits || !group.textContent.toLowerCase().includes(wanted("text"));
    shown += group.hidden ? 0 : 1;
  }
  count.textContent = `${shown} of ${total} rows`;
}
function sort(column, down) {
  const key = group => group.rows[0].cells[column].dataset.by, sign = down ? -1 : 1;
  const by = (a, b) => (key(a) === "") - (key(b) === "") ||
    sign * (isNaN(key(a)) ? key(a).localeCompare(key(b)) : key(a) - key(b));
  groups.sort(by).forEach(group => table.append(group));
}
[...table.tHead.rows[0].cells].forEach((cell, column) => {
  if (groups.every(group => group.rows[0].cells[column].dataset.by === "")) return;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = cell.textContent;
  cell.replaceChildren(button);
  button.onclick = () => {
    const down = cell.getAttribute("aria-sort") === "ascending";
    for (const other of cell.parentElement.cells) other.removeAttribute("aria-sort");
    cell.setAttribute("aria-sort", down ? "descending" : "ascending");
    sort(column, down);
  };
});
groups.forEach((group, place) => {
  const [row, more] = group.rows, button = document.createElement("button");
  more.id = `more-${place}`;
  more.hidden = true;
  button.type = "button";
  button.textContent = "note";
  button.setAttribute("aria-controls", more.id);
  button.setAttribute("aria-expanded", "false");
  button.onclick = () => {
    more.hidden = !more.hidden;
    button.setAttribute("aria-expanded", String(!more.hidden));
  };
  row.cells[row.cells.length - 1].append(" ", button);
});
function aim() {
  const row = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!row) return;
  if (row.closest("details")) row.closest("details").open = true;
  if (row.closest("tbody[hidden]")) { form.reset(); filter(); }
  row.scrollIntoView();
}
form.oninput = filter;
form.onsubmit = event => event.preventDefault();
form.hidden = false;
addEventListener("hashchange", aim);
filter();
aim();

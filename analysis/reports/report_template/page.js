"use strict";
const codes = [...document.querySelectorAll("details.code")], fold = document.getElementById("fold");
const label = () => { fold.textContent = codes.every(d => d.open) ? "Hide all code" : "Show all code"; };
fold.hidden = codes.length === 0;
fold.onclick = () => { const open = !codes.every(d => d.open); codes.forEach(d => { d.open = open; }); label(); };
codes.forEach(d => d.addEventListener("toggle", label));
for (const head of document.querySelectorAll("table.shown thead th")) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  head.append(button);
  button.onclick = () => {
    const body = head.closest("table").tBodies[0], at = head.cellIndex;
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = row => { const cell = row.cells[at]; return cell.dataset.order === undefined ? cell.textContent : +cell.dataset.order; };
    const gap = each => typeof each === "string" && each === "–";
    const order = (a, b) => gap(a) - gap(b) || (down ? -1 : 1) * (typeof a === "number" && typeof b === "number" ? a - b
      : String(a).localeCompare(String(b), "en", {numeric: true}));
    body.append(...[...body.rows].sort((a, b) => order(value(a), value(b))));
  };
}

// What scrolls by itself can be reached by the keyboard, and what does not is no stop on its way.
const reach = () => {
  for (const box of document.querySelectorAll("pre, .html")) {
    if (box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
};
addEventListener("resize", reach);
document.querySelectorAll("details").forEach(each => each.addEventListener("toggle", reach));
reach();

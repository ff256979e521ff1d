"use strict";
// Sorts and filters the tables; without it they are in order of place and whole.

/** @param {HTMLTableRowElement} row @param {number} column @returns {string | number} what a row is sorted by */
function sortKey(row, column) {
  let end = 0; // of a cell, which may span columns
  const cell = Array.from(row.cells).find((one) => (end += one.colSpan) > column);
  const value = cell.dataset.value;
  if (value === undefined) return cell.textContent.trim().toLowerCase();
  return value === "" || Number.isNaN(Number(value)) ? "" : Number(value);
}

/** @param {string | number} one @param {string | number} two @returns {number} absent values come last */
function compareKeys(one, two) {
  if (one === "" || two === "") return one === two ? 0 : one === "" ? Infinity : -Infinity;
  if (typeof one === "number" && typeof two === "number") return one - two;
  return String(one).localeCompare(String(two));
}

/** @param {HTMLTableElement} table @param {number} column */
function sortTable(table, column) {
  const heads = table.tHead.rows[0].cells;
  const falls = heads[column].getAttribute("aria-sort") === "ascending";
  for (const head of heads) head.removeAttribute("aria-sort");
  heads[column].setAttribute("aria-sort", falls ? "descending" : "ascending");
  const rows = Array.from(table.tBodies[0].rows, (row) => ({ row, key: sortKey(row, column) }));
  rows.sort((one, two) => {
    const order = compareKeys(one.key, two.key);
    return falls && Number.isFinite(order) ? -order : order;
  });
  table.tBodies[0].append(...rows.map((one) => one.row));
  table.classList.toggle("sorted", column !== 1 || falls);
}

/** @param {string} text */
function filterRows(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const section of document.querySelectorAll("section:has(table)")) {
    const title = section.querySelector("h2").textContent.toLowerCase();
    let own = 0;
    for (const row of section.querySelectorAll("tbody tr")) {
      const content = `${title} ${row.textContent.toLowerCase()}`;
      row.hidden = !words.every((word) => content.includes(word));
      own += Number(!row.hidden);
    }
    section.hidden = own === 0;
    shown += own;
  }
  document.getElementById("count").textContent = words.length ? `${shown} shown` : "";
}

for (const table of document.querySelectorAll("table")) {
  for (const [column, head] of Array.from(table.tHead.rows[0].cells).entries()) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => sortTable(table, column));
    head.replaceChildren(button);
  }
}
const filter = document.getElementById("filter");
filter.addEventListener("input", () => filterRows(filter.value));
document.getElementById("tools").hidden = false;

"use strict";
// Sorts and filters the tables; without it they are in order of place and whole.

/** @param {HTMLTableRowElement} row @param {number} column @returns {string | number} what a row is sorted by */
function sortKey(row, column) {
  let end = 0; // of a cell, which may span columns
  const cell = Array.from(row.cells).find((one) => (end += one.colSpan) > column);
  const value = cell?.dataset.value;
  if (value === undefined) return (cell?.textContent ?? "").trim().toLowerCase();
  return value === "" || Number.isNaN(Number(value)) ? "" : Number(value);
}

/** @param {string | number} one @param {string | number} two @returns {number} absent values come last */
function compareKeys(one, two) {
  if (one === "" || two === "") return one === two ? 0 : one === "" ? Infinity : -Infinity;
  if (typeof one === "number" && typeof two === "number") return one - two;
  return String(one).localeCompare(String(two));
}

/** @param {HTMLTableElement} table */
const headsOf = (table) => Array.from(table.querySelectorAll("thead th"));

/** @param {HTMLTableElement} table @param {number} column */
function sortTable(table, column) {
  const heads = headsOf(table);
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
  for (const table of document.querySelectorAll("table")) {
    const section = table.closest("section");
    const title = (section?.querySelector("h2")?.textContent ?? "").toLowerCase();
    let own = 0;
    for (const row of table.querySelectorAll("tbody tr")) {
      const content = `${title} ${row.textContent.toLowerCase()}`;
      const isShown = words.every((word) => content.includes(word));
      row.toggleAttribute("hidden", !isShown);
      own += Number(isShown);
    }
    section?.toggleAttribute("hidden", own === 0);
    shown += own;
  }
  byId("count").textContent = words.length ? `${shown} shown` : "";
}

/** @param {string} id @returns {HTMLElement} */
function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no #${id}`);
  return found;
}

for (const table of document.querySelectorAll("table")) {
  for (const [column, head] of headsOf(table).entries()) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => sortTable(table, column));
    head.replaceChildren(button);
  }
}
const filter = byId("filter");
filter.addEventListener("input", () => { if (filter instanceof HTMLInputElement) filterRows(filter.value); });
byId("tools").hidden = false;

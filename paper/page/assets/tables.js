// Tables that sort by any column, numbers by their value.

parts.push(() => {
  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => sortBy(table, column));
    });
  }
});

function sortBy(table, column) {
  const heads = [...table.tHead.rows[0].cells];
  const down = heads[column].getAttribute("aria-sort") !== "descending";
  heads.forEach((head, place) => head.setAttribute("aria-sort", place !== column ? "none" : down ? "descending" : "ascending"));
  const sign = down ? -1 : 1;
  const rows = [...table.tBodies[0].rows];
  rows.sort((one, other) => sign * compared(one.cells[column], other.cells[column]));
  table.tBodies[0].append(...rows);
}

function compared(one, other) {
  const [a, b] = [one, other].map((cell) => (cell.dataset.value === undefined ? NaN : Number(cell.dataset.value)));
  if (Number.isNaN(a) && Number.isNaN(b)) return one.textContent.localeCompare(other.textContent);
  if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) ? -1 : 1;
  return a - b;
}

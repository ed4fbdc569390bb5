/* Tables that are sorted by a click on the name of a column. */

function compareCells(a, b) {
  const [x, y] = [a.dataset.key, b.dataset.key];
  if (x === "" || y === "") return (x === "") - (y === "");
  const difference = Number(x) - Number(y);
  return Number.isNaN(difference) ? x.localeCompare(y) : difference;
}

function sortTable(table, index, isAscending) {
  const rows = [...table.tBodies[0].rows];
  const sign = isAscending ? 1 : -1;
  rows.sort((a, b) => sign * compareCells(a.cells[index], b.cells[index]));
  table.tBodies[0].append(...rows);
}

function startTable(table) {
  if (table.tBodies[0].rows.length < 2) return;
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, index) => {
    if (!head.textContent.trim()) return;
    const button = make("button", { type: "button", className: "sort" }, ...head.childNodes);
    button.addEventListener("click", () => {
      const isNumber = head.classList.contains("number");
      const last = head.getAttribute("aria-sort");
      const isAscending = last ? last === "descending" : !isNumber;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", isAscending ? "ascending" : "descending");
      sortTable(table, index, isAscending);
    });
    head.append(button);
  });
}

for (const button of document.querySelectorAll("th button"))
  button.addEventListener("click", () => {
    const head = button.closest("th"), body = button.closest("table").tBodies[0], column = head.cellIndex;
    const text = column === 0 || [...body.rows].every((row) => !row.cells[column].dataset.value);
    const order = head.getAttribute("aria-sort") === (text ? "ascending" : "descending") ? -1 : 1;
    const key = (row) => text ? row.cells[column].textContent.trim() : -(row.cells[column].dataset.value || -Infinity);
    const compare = (a, b) => (text ? key(a).localeCompare(key(b)) : key(a) === key(b) ? 0 : key(a) - key(b));
    const missing = (row) => !text && !row.cells[column].dataset.value;
    body.append(...[...body.rows].sort((a, b) => missing(a) - missing(b) || order * compare(a, b)));
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", (order === 1) === text ? "ascending" : "descending");
  });

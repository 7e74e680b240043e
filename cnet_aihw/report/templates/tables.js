// Long tables: a click on a heading sorts the rows, the field above keeps those with all words.
for (const table of document.querySelectorAll("table")) {
  const rows = [...table.tBodies[0].rows];
  if (rows.length < 8) continue;
  const field = document.createElement("input");
  const count = document.createElement("span");
  field.type = "search";
  field.placeholder = "rows with these words";
  field.setAttribute("aria-label", field.placeholder);
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every(word => text.includes(word));
    }
    count.textContent = ` ${rows.filter(row => !row.hidden).length} of ${rows.length}`;
  });
  const line = document.createElement("p");
  line.className = "filter";
  line.append(field, count);
  table.parentElement.before(line);
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    const text = row => row.cells[column].textContent;
    const number = row => parseFloat(text(row).replaceAll(",", ""));  // 1,234.5 seconds
    const isNumber = heading.classList.contains("number")  // or the values of a sweep
      || rows.every(row => text(row) === "-" || !isNaN(text(row).replaceAll(",", "")));
    const compare = (a, b) => isNumber
      ? number(a) - number(b)
      : text(a).localeCompare(text(b), "en", { numeric: true });
    const isEmpty = row => isNumber ? isNaN(number(row)) : text(row) === "-";
    const sort = () => {
      const falling = heading.getAttribute("aria-sort") === "ascending";
      for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const filled = rows.filter(row => !isEmpty(row));
      filled.sort(falling ? (a, b) => compare(b, a) : compare);
      table.tBodies[0].append(...filled, ...rows.filter(isEmpty));
    };
    heading.tabIndex = 0;
    heading.classList.add("sorts");
    heading.addEventListener("click", sort);
    heading.addEventListener("keydown", event => { if (event.key === "Enter") sort(); });
  });
}

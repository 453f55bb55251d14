// Sort the rows of a table in `.sortable` by a click on the head of a column: numbers first, empty cells last.
document.querySelectorAll(".sortable table").forEach((table) => {
  const text = (row, column) => row.cells[column].textContent.trim();
  const compare = (first, second) => {
    if (!first || !second) return !first - !second;
    const difference = parseFloat(first) - parseFloat(second);
    return Number.isNaN(difference) ? first.localeCompare(second) : difference;
  };
  table.querySelectorAll("th").forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending";
      table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const body = table.tBodies[0];
      const sign = (first, second) => (descending && first && second ? -1 : 1);
      body.append(
        ...[...body.rows].sort((a, b) => {
          const [first, second] = [text(a, column), text(b, column)];
          return sign(first, second) * compare(first, second);
        }),
      );
    });
  });
});

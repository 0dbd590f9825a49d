"use strict";
{
  const byId = (id) => document.getElementById(id);
  const body = byId("systems-table").tBodies[0];
  const heads = [...byId("systems-table").tHead.rows[0].cells];

  // Numbers first the largest, words from A; a second click turns the order round. What is empty stays last.
  const keyOf = (row, column) => {
    const cell = row.cells[column];
    return "value" in cell.dataset ? -Number(cell.dataset.value) : cell.textContent;
  };
  const sortBy = (column) => {
    const turned = heads[column].getAttribute("aria-sort") === "ascending";
    for (const head of heads) head.setAttribute("aria-sort", "none");
    heads[column].setAttribute("aria-sort", turned ? "descending" : "ascending");
    const order = (a, b) => {
      const [first, second] = [keyOf(a, column), keyOf(b, column)];
      if (first === "" || second === "") return (first === "") - (second === "");
      const difference = typeof first === "number" ? first - second : first.localeCompare(second);
      return turned ? -difference : difference;
    };
    body.append(...[...body.rows].sort(order));
  };
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => sortBy(column)));

  const filter = () => {
    const text = byId("find-system").value.trim().toLowerCase();
    const stage = byId("system-stage").value;
    let shown = 0;
    for (const row of body.rows) {
      row.hidden = !row.textContent.toLowerCase().includes(text) || (stage !== "" && row.dataset.stage !== stage);
      shown += !row.hidden;
    }
    byId("systems-count").textContent = `${shown} of ${body.rows.length} rows`;
  };
  byId("find-system").addEventListener("input", filter);
  byId("system-stage").addEventListener("change", filter);
  filter();
}

"use strict";
{
  const byId = (id) => document.getElementById(id);
  const body = byId("systems-table").tBodies[0];
  const heads = [...byId("systems-table").tHead.rows[0].cells];

  // Numbers first the largest, words from A; a second click turns the order round. What is empty stays last.
  const keyOf = (row, column) => {
    const cell = row.cells[column];
    return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent;
  };
  const sortBy = (column) => {
    const head = heads[column];
    const [first, second] = head.classList.contains("num") ? ["descending", "ascending"] : ["ascending", "descending"];
    const order = head.getAttribute("aria-sort") === first ? second : first;
    for (const each of heads) each.setAttribute("aria-sort", each === head ? order : "none");
    body.append(...[...body.rows].sort((a, b) => {
      const [one, other] = [keyOf(a, column), keyOf(b, column)];
      if (one === "" || other === "") return (one === "") - (other === "");
      const difference = typeof one === "number" ? one - other : one.localeCompare(other);
      return order === "ascending" ? difference : -difference;
    }));
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

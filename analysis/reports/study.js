"use strict";
const views = [];
let picked = null;

function pick(name) {
  picked = name === picked ? null : name;
  for (const view of views) view.signal("picked", picked).runAsync();
  for (const element of document.querySelectorAll("[data-picks]")) {
    const mine = picked !== null && element.dataset.picks === picked;
    element.classList.toggle("picked", mine);
    const button = element.matches("button") ? element : element.querySelector("button.pick");
    if (button) button.setAttribute("aria-pressed", String(mine));
  }
  const all = document.getElementById("show-all");
  if (all) all.disabled = picked === null;
  document.body.dataset.picked = picked ?? "";
}

function sortBy(heading) {
  const table = heading.closest("table");
  const place = heading.cellIndex;
  const down = heading.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
  const words = heading.classList.contains("words");
  const value = (row) => row.cells[place].dataset.value;
  const compare = (left, right) => {
    const [a, b] = [value(left), value(right)];
    if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
    const order = words ? a.localeCompare(b, undefined, { numeric: true }) : Number(a) - Number(b);
    return down ? -order : order;
  };
  const body = table.tBodies[0];
  for (const row of Array.from(body.rows).sort(compare)) body.append(row);
}

document.addEventListener("click", (event) => {
  if (event.target.closest("#show-all")) return picked === null ? undefined : pick(picked);
  const heading = event.target.closest("table.sortable th");
  if (heading) return sortBy(heading);
  const element = event.target.closest("[data-picks]");
  if (element) return pick(element.dataset.picks);
  const legend = event.target.closest(".role-legend-symbol path, .role-legend-label text");
  const datum = legend && legend.__data__ && legend.__data__.datum;
  if (datum && configurations[datum.value] !== undefined) pick(configurations[datum.value]);
});

let configurations = {};
const source = document.getElementById("specifications");
if (source) {
  const specifications = JSON.parse(source.textContent);
  const options = { mode: "vega-lite", renderer: "svg", actions: { export: true, source: false, compiled: false, editor: false } };
  Promise.all(Array.from(document.querySelectorAll("[data-chart]"), async (figure) => {
    const specification = specifications[figure.dataset.chart];
    const known = specification.params.find((each) => each.name === "configurations").value;
    configurations = { ...configurations, ...known };
    const { view } = await vegaEmbed(figure, specification, { ...options, downloadFileName: figure.dataset.chart });
    views.push(view);
    view.addEventListener("click", (_, item) => {
      const name = item && item.datum && known[item.datum.series];
      if (name !== undefined) pick(name);
    });
  })).then(() => { document.body.dataset.drawn = "yes"; });
}

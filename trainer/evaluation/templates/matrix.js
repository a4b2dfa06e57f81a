// The pixels of a cell of the confusion matrix, which the mouse points at or the arrow keys move to.
"use strict";

const matrix = document.getElementById("matrix");
const readout = document.querySelector(".readout");
const { names, pixels, totals } = JSON.parse(document.getElementById("matrix-pixels").textContent);
const cells = [...matrix.tBodies[0].rows].map((row) => [...row.querySelectorAll("td")]);
const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

function placeOf(cell) {
  return [cell.parentNode.sectionRowIndex, cell.cellIndex - 1];
}

function tell(cell) {
  const [row, column] = placeOf(cell);
  const share = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 2 }).format(pixels[row][column] / Math.max(1, totals[row]));
  const number = new Intl.NumberFormat("en").format(pixels[row][column]);
  readout.textContent = `${names[row]} predicted as ${names[column]}: ${share} of ${names[row]}, ${number} pixels`;
}

function move(cell, event) {
  const step = steps[event.key];
  if (!step) return;
  event.preventDefault();
  const [row, column] = placeOf(cell);
  const target = cells[row + step[0]]?.[column + step[1]];
  if (!target) return;
  cell.tabIndex = -1;
  target.tabIndex = 0;
  target.focus();
}

for (const cell of cells.flat()) {
  cell.addEventListener("mouseenter", () => tell(cell));
  cell.addEventListener("click", () => tell(cell));
  cell.addEventListener("focus", () => tell(cell));
  cell.addEventListener("keydown", (event) => move(cell, event));
}
cells[0][0].tabIndex = 0;

// What is confused most often, before anything is pointed at.
const share = (cell) => {
  const [row, column] = placeOf(cell);
  return row === column ? -1 : pixels[row][column] / Math.max(1, totals[row]);
};
tell(cells.flat().reduce((most, cell) => (share(cell) > share(most) ? cell : most)));

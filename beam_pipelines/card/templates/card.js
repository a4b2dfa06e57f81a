// How much of the masks is shown, by keys, buttons and a slider; and the picture that is enlarged.
"use strict";

const slider = document.getElementById("opacity");
const layers = [...document.querySelectorAll("input[name=layer]")];
const viewer = document.getElementById("viewer");
const stacks = [...document.querySelectorAll("figure.sample .stack")];
let enlarged = 0;

function setOpacity(value) {
  document.documentElement.style.setProperty("--opacity", value);
  slider.value = value;
  for (const layer of layers) layer.checked = Number(layer.value) === Number(value);
}

function enlarge(number) {
  enlarged = (number + stacks.length) % stacks.length;
  const { naturalWidth, naturalHeight } = stacks[enlarged].querySelector(".photo");
  viewer.style.setProperty("--ratio", naturalWidth / naturalHeight);
  for (const layer of ["photo", "mask"]) {
    const shown = stacks[enlarged].querySelector(`.${layer}`);
    const target = viewer.querySelector(`.${layer}`);
    target.src = shown.src;
    target.alt = shown.alt;
  }
  const figure = stacks[enlarged].closest("figure");
  viewer.querySelector(".caption").textContent = figure.querySelector("figcaption").innerText;
  if (!viewer.open) viewer.showModal();
}

slider.addEventListener("input", () => setOpacity(slider.value));
for (const layer of layers) layer.addEventListener("change", () => setOpacity(layer.value));
stacks.forEach((stack, number) => stack.addEventListener("click", () => enlarge(number)));
viewer.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.step) enlarge(enlarged + Number(button.dataset.step));
  else if (button || event.target === viewer) viewer.close();
});
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (["1", "2", "3"].includes(event.key)) setOpacity(layers[Number(event.key) - 1].value);
  else if (viewer.open && event.key === "ArrowLeft") enlarge(enlarged - 1);
  else if (viewer.open && event.key === "ArrowRight") enlarge(enlarged + 1);
});

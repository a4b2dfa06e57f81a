// Which layer lies over the photos and how much of it is seen, by keys, buttons and a slider; and the picture that is
// enlarged.
"use strict";

const slider = document.getElementById("opacity");
const views = [...document.querySelectorAll("input[name=layer]")];
const viewer = document.getElementById("viewer");
const stacks = [...document.querySelectorAll("figure.sample .stack")];
let enlarged = 0;
let seen = "";

// A view without a layer keeps the one that was seen.
function show(layer, opacity) {
  seen = layer || seen;
  document.documentElement.style.setProperty("--opacity", opacity);
  slider.value = opacity;
  for (const mask of document.querySelectorAll(".stack .mask")) mask.hidden = mask.dataset.layer !== seen;
  for (const view of views) view.checked = Number(view.value) === Number(opacity) && (view.dataset.layer || seen) === seen;
}

function enlarge(number) {
  enlarged = (number + stacks.length) % stacks.length;
  const { naturalWidth, naturalHeight } = stacks[enlarged].querySelector(".photo");
  viewer.style.setProperty("--ratio", naturalWidth / naturalHeight);
  viewer.querySelector(".stack").replaceChildren(...[...stacks[enlarged].children].map((each) => each.cloneNode()));
  viewer.querySelector(".caption").textContent = stacks[enlarged].closest("figure").querySelector("figcaption").innerText;
  if (!viewer.open) viewer.showModal();
}

slider.addEventListener("input", () => show("", slider.value));
for (const view of views) view.addEventListener("change", () => show(view.dataset.layer, view.value));
stacks.forEach((stack, number) => stack.addEventListener("click", () => enlarge(number)));
viewer.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.step) enlarge(enlarged + Number(button.dataset.step));
  else if (button?.dataset.view) views[button.dataset.view].click();
  else if (button || event.target === viewer) viewer.close();
});
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const view = views[Number(event.key) - 1];
  if (view) show(view.dataset.layer, view.value);
  else if (viewer.open && event.key === "ArrowLeft") enlarge(enlarged - 1);
  else if (viewer.open && event.key === "ArrowRight") enlarge(enlarged + 1);
});
const first = views.find((view) => view.checked);
show(first.dataset.layer || views.find((view) => view.dataset.layer).dataset.layer, first.value);

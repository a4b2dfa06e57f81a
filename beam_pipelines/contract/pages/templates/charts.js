// Draws each canvas by the JSON beside it, in the colors of the style sheet, and again if the color scheme changes.
"use strict";

function themed(config) {
  const style = getComputedStyle(document.documentElement);
  const value = (name) => style.getPropertyValue(name).trim();
  Chart.defaults.color = value("--quiet");
  Chart.defaults.borderColor = value("--line");
  Chart.defaults.font.family = style.fontFamily;
  Chart.defaults.animation = false;
  Chart.defaults.maintainAspectRatio = false;
  const copy = structuredClone(config);
  for (const set of copy.data.datasets) {
    const color = set.tone ? value(`--${set.tone}`) : set.borderColor;
    if (color) {
      set.borderColor = color;
      set.backgroundColor = color;
    }
  }
  return withNumbers(copy);
}

// Numbers in axes and tips as in the tables: with few digits, in percent, or with their sign, and a minus as wide as +.
function withNumbers(config) {
  const style = config.percent ? { style: "percent", maximumFractionDigits: 2 } : config.signed ? { signDisplay: "exceptZero", maximumFractionDigits: 2 } : { maximumSignificantDigits: 4 };
  const numbers = new Intl.NumberFormat("en", style);
  const format = (number) => numbers.format(number).replace("-", "\u2212");
  const axis = config.options.indexAxis === "y" ? "x" : "y";
  const scale = (config.options.scales[axis] ??= {});
  scale.ticks = { ...scale.ticks, callback: (number) => format(number) };
  const shown = (item) => Array.isArray(item.raw) ? item.raw.map(format).join(" to ") : format(item.parsed[axis]);
  const label = (item) => ` ${item.dataset.label}: ${shown(item)}`;
  const named = (item) => item.dataset.label && item.raw !== null;
  config.options.plugins = { ...config.options.plugins, tooltip: { callbacks: { label }, filter: named } };
  const labels = config.options.plugins.legend.labels;
  config.options.plugins.legend.labels = { ...labels, filter: (item) => item.text };
  return config;
}

function drawCharts() {
  for (const figure of document.querySelectorAll("figure.chart")) {
    const canvas = figure.querySelector("canvas");
    Chart.getChart(canvas)?.destroy();
    new Chart(canvas, themed(JSON.parse(figure.querySelector("script").textContent)));
  }
}

drawCharts();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawCharts);
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});

"use strict";
// Draws the figures that stand in the page as JSON. Everything else of the page is there without it.
const figures = JSON.parse(document.getElementById("figures").textContent);
const frames = JSON.parse(document.getElementById("frames").textContent);
const slots = [...document.querySelectorAll("[data-figure]")];
const drawn = new Set();
const touch = matchMedia("(pointer: coarse)").matches;
const config = { responsive: true, displayModeBar: false };

function nameOf(slot) {
  const chosen = [...slot.querySelectorAll("fieldset :checked")].map((input) => input.value);
  return chosen.reduce((name, value) => name.replace("*", value), slot.dataset.figure);
}

function draw(slot) {
  const { data, layout } = structuredClone(figures[nameOf(slot)]);
  const fitting = { ...layout, showlegend: false, dragmode: touch ? false : "zoom" };
  Plotly.react(slot.querySelector(".plot"), data, fitting, config);
  legend(slot, data);
}

function legend(slot, data) {
  const list = slot.querySelector(".legend");
  const named = data.filter((trace) => trace.name && trace.showlegend !== false);
  list.replaceChildren(...(named.length < 2 ? [] : named.map((trace) => entry(slot, trace))));
}

function entry(slot, trace) {
  const dashes = { dash: "6 4", dot: "2 3", dashdot: "6 3 2 3" };
  const item = document.createElement("li");
  const button = document.createElement("button");
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  const solid = trace.type === "bar";
  const dash = solid ? (trace.marker.pattern.shape ? "dot" : "") : trace.line.dash;
  line.setAttribute("d", "M0 5H24");
  line.setAttribute("stroke", solid ? trace.marker.color : trace.line.color);
  line.setAttribute("stroke-width", solid ? 8 : 2.5);
  if (dashes[dash]) line.setAttribute("stroke-dasharray", dashes[dash]);
  svg.append(line);
  button.append(svg, trace.meta ?? trace.name);
  button.setAttribute("aria-pressed", "true");
  button.addEventListener("click", () => {
    const show = button.getAttribute("aria-pressed") === "false";
    button.setAttribute("aria-pressed", String(show));
    const plot = slot.querySelector(".plot");
    const own = plot.data.flatMap((t, i) => ((t.legendgroup || t.name) === (trace.legendgroup || trace.name) ? [i] : []));
    Plotly.restyle(plot, { visible: show }, own);
  });
  item.append(button);
  return item;
}

function unpacked(held) {
  const bytes = Uint8Array.from(atob(held.values), (c) => c.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const [height, width] = held.shape;
  return (frame) =>
    Array.from({ length: height }, (_, row) =>
      Array.from({ length: width }, (_, column) => {
        const value = view.getInt16(2 * ((frame * height + row) * width + column), true);
        return value === -32768 ? null : value / 1000;
      }));
}

function slide(slot) {
  const held = frames[slot.dataset.figure];
  const input = slot.querySelector(".slider input");
  const output = slot.querySelector(".slider output");
  const grid = unpacked(held);
  const move = (redraw) => {
    const frame = Number(input.value);
    const loss = held.validation[frame];
    const chosen = frame === held.shown ? ", selected" : "";
    output.textContent = `meta-iteration ${held.numbers[frame]}${chosen}; validation loss ${loss === null ? "–" : loss}`;
    if (redraw) Plotly.restyle(slot.querySelector(".plot"), { z: [grid(frame)] }, [0]);
  };
  input.addEventListener("input", () => move(true));
  move(false);
}

function resize() {
  for (const slot of slots.filter((s) => drawn.has(s))) Plotly.Plots.resize(slot.querySelector(".plot"));
}

// What stands in a closed part is drawn when it is opened.
function begin(slot) {
  if (drawn.has(slot)) return;
  drawn.add(slot);
  draw(slot);
  slot.querySelectorAll("fieldset input").forEach((input) => input.addEventListener("change", () => draw(slot)));
  if (slot.dataset.figure in frames) slide(slot);
}

// One after the other, so that the page can be scrolled and read meanwhile.
function next(waiting) {
  if (!waiting.length) document.documentElement.dataset.drawn = String(drawn.size);
  else {
    begin(waiting[0]);
    setTimeout(next, 0, waiting.slice(1));
  }
}

document.querySelectorAll(".panel").forEach((panel) =>
  panel.addEventListener("toggle", () => panel.querySelectorAll("[data-figure]").forEach(begin)));
document.querySelectorAll("[name=theme]").forEach((input) =>
  input.addEventListener("change", () => { document.documentElement.dataset.theme = input.value; }));
document.querySelectorAll(".copy").forEach((button) =>
  button.addEventListener("click", () => {
    const text = document.getElementById(button.dataset.of);
    getSelection().selectAllChildren(text);
    if (navigator.clipboard) navigator.clipboard.writeText(text.textContent).catch(() => {}); // it stays selected
  }));
addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach((part) => { part.open = true; });
  slots.forEach(begin);
  document.body.style.width = "46rem"; // what a sheet of A4 or Letter holds
  resize();
});
addEventListener("afterprint", () => { document.body.style.width = ""; resize(); });
matchMedia("print").addEventListener("change", resize);
next(slots.filter((slot) => !slot.closest("details:not([open])")));

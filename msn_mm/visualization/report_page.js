"use strict";

// Tables: a click or a key on a heading sorts by its column, numbers by their value.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const ascending = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const body = table.tBodies[0];
      const rows = [...body.rows].map((row) => ({ row, key: keyOf(row.cells[column]) }));
      rows.sort((a, b) => compare(a.key, b.key, ascending));
      body.append(...rows.map((item) => item.row));
    });
  });
}

function keyOf(cell) {
  if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
  return cell.textContent.trim();
}

function compare(a, b, ascending) {
  // Empty cells come last either way.
  if (a === "" || b === "") return (a === "") - (b === "");
  let order;
  if (typeof a === "number" && typeof b === "number") order = a - b;
  else if (typeof a !== typeof b) order = typeof a === "number" ? -1 : 1;
  else order = a.localeCompare(b, undefined, { numeric: true });
  return ascending ? order : -order;
}

// Charts: a pointer, a finger or the arrow keys read the values at one place.
for (const figure of document.querySelectorAll("figure.chart")) {
  const data = JSON.parse(figure.querySelector("script").textContent);
  const svg = figure.querySelector("svg.plot");
  const cursor = svg.querySelector(".cursor");
  const at = figure.querySelector(".at");
  const outputs = [...figure.querySelectorAll(".legend output")];
  const places = [...new Set(data.series.flatMap((s) => s.x))].sort((a, b) => a - b);
  let chosen = null;
  const show = (place) => {
    chosen = place;
    const [low, high] = data.x_range;
    const [left, right] = data.x_pixels;
    const x = left + ((places[place] - low) / (high - low || 1)) * (right - left);
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
    cursor.classList.add("on");
    at.textContent = `${data.x_label} ${short(places[place])}`;
    data.series.forEach((series, i) => {
      const near = nearest(series.x, places[place]);
      const apart = Math.abs(series.x[near] - places[place]);
      outputs[i].textContent = apart <= data.reach ? short(series.y[near]) : "";
    });
  };
  const hide = () => {
    chosen = null;
    cursor.classList.remove("on");
    at.textContent = "";
    outputs.forEach((output) => { output.textContent = ""; });
  };
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    const [low, high] = data.x_range;
    const [left, right] = data.x_pixels;
    show(nearest(places, low + ((x - left) / (right - left)) * (high - low)));
  });
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const next = chosen === null ? (step > 0 ? 0 : places.length - 1) : chosen + step;
    show(Math.max(0, Math.min(places.length - 1, next)));
  });
}

function nearest(sorted, value) {
  let low = 0;
  let high = sorted.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low > 0 && value - sorted[low - 1] < sorted[low] - value ? low - 1 : low;
}

function short(value) {
  if (value === null) return "";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2);
  return String(Number(value.toPrecision(4)));
}

// Maps of features: a pointer, a finger or the arrow keys show the image behind a point.
for (const map of document.querySelectorAll(".map")) {
  const data = JSON.parse(map.querySelector("script").textContent);
  const svg = map.querySelector("svg");
  const tip = map.querySelector(".tip");
  const thumb = tip.querySelector(".thumb");
  const words = tip.querySelector(".words");
  const dots = [...svg.querySelectorAll("circle")];
  let chosen = null;
  const show = (place) => {
    hide();
    chosen = place;
    const dot = dots[place];
    dot.classList.add("on");
    const cell = data.cell;
    thumb.style.backgroundPosition =
      `${-cell * (place % data.columns)}px ${-cell * Math.floor(place / data.columns)}px`;
    words.textContent = data.classes ? `${data.classes[data.labels[place]]}: ${data.names[place]}` : data.names[place];
    tip.hidden = false;
    const box = svg.getBoundingClientRect();
    const scale = box.width / svg.viewBox.baseVal.width;
    const x = dot.cx.baseVal.value * scale;
    const y = dot.cy.baseVal.value * scale;
    const left = x + 14 + tip.offsetWidth > box.width ? x - 14 - tip.offsetWidth : x + 14;
    tip.style.left = `${Math.max(0, Math.min(left, box.width - tip.offsetWidth))}px`;
    tip.style.top = `${Math.max(0, Math.min(y - tip.offsetHeight / 2, box.height - tip.offsetHeight))}px`;
  };
  const hide = () => {
    if (chosen !== null) dots[chosen].classList.remove("on");
    chosen = null;
    tip.hidden = true;
  };
  const find = (event) => {
    const box = svg.getBoundingClientRect();
    const scale = svg.viewBox.baseVal.width / box.width;
    const x = (event.clientX - box.left) * scale;
    const y = (event.clientY - box.top) * scale;
    let best = null;
    let least = (24 * scale) ** 2;
    dots.forEach((dot, i) => {
      if (dot.classList.contains("off")) return;
      const apart = (dot.cx.baseVal.value - x) ** 2 + (dot.cy.baseVal.value - y) ** 2;
      if (apart < least) [best, least] = [i, apart];
    });
    if (best === null) hide();
    else if (best !== chosen) show(best);
  };
  svg.addEventListener("pointermove", find);
  svg.addEventListener("pointerdown", find);
  svg.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") hide(); });
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (event.key === "Escape") hide();
    if (step === undefined) return;
    event.preventDefault();
    for (let next = (chosen ?? (step > 0 ? -1 : dots.length)) + step; next >= 0 && next < dots.length; next += step) {
      if (!dots[next].classList.contains("off")) { show(next); break; }
    }
  });
  const buttons = [...map.parentElement.querySelectorAll(".classes button")];
  buttons.forEach((button) => button.addEventListener("click", () => {
    hide();
    const pressed = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(pressed));
    const kept = new Set(buttons.filter((b) => b.getAttribute("aria-pressed") === "true").map((b) => Number(b.dataset.label)));
    dots.forEach((dot, i) => dot.classList.toggle("off", kept.size > 0 && !kept.has(data.labels[i])));
  }));
}

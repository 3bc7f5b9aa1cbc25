
"use strict";
const page = JSON.parse(document.getElementById("rows").textContent);
const inputs = [...document.querySelectorAll(".images input")];
const known = document.getElementById("labels");
const count = document.getElementById("count");
let kept = true;

function cell(text) {
  return /^\s|\s$|[",\r\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
}

function csv() {
  const rows = page.rows.map(([path, label, ...rest], i) => [
    path,
    i < inputs.length ? inputs[i].value.trim() : label,
    ...rest,
  ]);
  return [page.columns, ...rows].map((row) => row.map(cell).join(",") + "\r\n").join("");
}

function tell() {
  const values = inputs.map((input) => input.value.trim()).filter((value) => value);
  count.textContent = `${values.length} of ${inputs.length} labelled`;
  const names = new Set([...page.labels, ...values]);
  known.replaceChildren(
    ...[...names].sort().map((name) => {
      const option = document.createElement("option");
      option.value = name;
      return option;
    }),
  );
}

inputs.forEach((input, i) => {
  input.addEventListener("change", tell);
  input.addEventListener("input", () => {
    kept = false;
  });
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter") {
      (inputs[i + 1] ?? document.getElementById("download")).focus();
    }
  });
});

document.getElementById("download").addEventListener("click", () => {
  // The mark tells spreadsheets that it is UTF-8.
  const file = new Blob(["\ufeff" + csv()], { type: "text/csv" });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = page.file;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  kept = true;
});

window.addEventListener("beforeunload", (event) => {
  if (!kept) {
    event.preventDefault();
  }
});

tell();

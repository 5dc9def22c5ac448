"use strict";
// Elements are made by node() alone, which sets text as text: nothing that the data says is markup.

function node(tag, given, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(given || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on")
      for (const [event, call] of Object.entries(value)) made.addEventListener(event, call);
    else if (name === "vars")
      for (const [key, v] of Object.entries(value)) made.style.setProperty(`--${key}`, v);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

const byId = (id) => document.getElementById(id);
const fill = (id, ...children) => byId(id).replaceChildren(...children.flat());
const whole = new Intl.NumberFormat("en-US");
const count = (n) => whole.format(n);
const several = (n, one, more) => `${count(n)} ${n === 1 ? one : more || one + "s"}`;
const percent = (n, of) => (of ? `${((100 * n) / of).toFixed(1)} %` : "–");
const known = (value) => value !== null && value !== undefined;
const fixed = (value, digits) => (known(value) ? value.toFixed(digits).replace("-", "−") : "–");
const signed = (value, digits) =>
  known(value) ? (value > 0 ? "+" : value < 0 ? "−" : "±") + Math.abs(value).toFixed(digits) : "–";
const between = (low, high, digits) =>
  known(low) && known(high) ? `${fixed(low, digits)} to ${fixed(high, digits)}` : "–";
const empty = (text) => node("p", { class: "empty" }, text);
const note = (text) => node("p", { class: "muted note" }, text);

// A table: columns are [title, "text" or "number"], cells are texts or nodes.
function table(caption, columns, rows) {
  const head = columns.map(([title, kind]) => node("th", { scope: "col", class: kind }, title));
  const body = rows.map((cells) =>
    node(
      "tr",
      {},
      cells.map((cell, c) =>
        c === 0
          ? node("th", { scope: "row", class: columns[c][1] }, cell)
          : node("td", { class: columns[c][1] }, cell),
      ),
    ),
  );
  return node(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    node(
      "table",
      {},
      node("caption", { class: "hidden" }, caption),
      node("thead", {}, node("tr", {}, head)),
      node("tbody", {}, body),
    ),
  );
}

// An interval as a line with a dot, on an axis that all rows of a table share.
function rangeOf(rows, zero) {
  const ends = rows.flatMap((r) => [r.low, r.high, r.value]).filter(known);
  if (zero) ends.push(0);
  const low = Math.min(...ends),
    high = Math.max(...ends),
    room = (high - low || 1) * 0.04;
  return [low - room, high + room];
}

function interval(row, [from, to], zero) {
  if (!known(row.value)) return "–";
  const at = (x) => `${(100 * (x - from)) / (to - from)}%`;
  const parts = [];
  if (zero) parts.push(node("i", { class: "zero", vars: { at: at(0) } }));
  if (known(row.low) && known(row.high))
    parts.push(node("i", { class: "span", vars: { at: at(row.low), to: at(row.high) } }));
  parts.push(node("i", { class: "dot", vars: { at: at(row.value) } }));
  return node("div", { class: "interval", "aria-hidden": "true" }, parts);
}

// The smallest of 1, 2, 5, 10, ... thousandths that is a multiple of `step` and gives few enough bars.
function barWidth(span, step, most) {
  for (let ten = 1; ; ten *= 10) {
    for (const digit of [1, 2, 5]) {
      const width = digit * ten;
      if (width % step === 0 && span / width <= most) return width;
    }
  }
}

function ticks(from, to, most) {
  const width = barWidth(to - from, 1, most),
    found = [];
  for (let at = Math.ceil(from / width) * width; at <= to; at += width) found.push(at);
  return found;
}

// The newest changes of stock, whichever product they are of.

import { at, h, put, time } from "./dom.js";
import { clock, count, rate, signed, words } from "./format.js";
import { nameOf, productLink } from "./stock.js";

const ROWS = 14;
/** It is drawn no more often, so that it can be read. */
const EVERY_MS = 500;
/** Over so long the rate is told. */
const WINDOW_MS = 5_000;

let waiting = [];
let timer = null;
/** Numbers of changes with when they came. */
let arrivals = [];

/** Takes changes from the stream. */
export function tick(changes) {
  arrivals.push([Date.now(), changes.length]);
  waiting = waiting.concat(changes).slice(-ROWS);
  timer ??= setTimeout(draw, EVERY_MS);
}

function draw() {
  timer = null;
  const list = at("ticker");
  // Who points at it wants to read it, or to open a product.
  if (list.matches(":hover") || list.contains(document.activeElement)) {
    timer = setTimeout(draw, EVERY_MS);
    return;
  }
  const fresh = waiting.reverse().map(entry);
  // Where everything is new all the time, nothing need come softly.
  if (fresh.length < ROWS / 2) for (const one of fresh) one.classList.add("come");
  list.prepend(...fresh);
  while (list.children.length > ROWS) list.lastElementChild.remove();
  waiting = [];
  at("ticker-empty").hidden = true;
}

/** Shows how many changes come a second. */
export function showRate() {
  const now = Date.now();
  arrivals = arrivals.filter(([when]) => now - when < WINDOW_MS);
  const sum = arrivals.reduce((all, [, number]) => all + number, 0);
  put(at("ticker-rate"), sum ? `${rate((sum * 1000) / WINDOW_MS)}/s` : "");
}

function entry(change) {
  const isPlain = change.stock_status === "in_stock";
  return h("li", {},
    h("span", { class: "ticker-product" }, h("a", { href: productLink(change.product_id, change.location_id), text: nameOf(change.product_id) })),
    h("span", { class: `delta ${change.delta > 0 ? "more" : "less"}`, text: signed(change.delta) }),
    h("span", { class: "soft" }, time(change.processed_at, clock(change.processed_at)), ` · ${change.location_id}`),
    h("span", { class: `hand ${isPlain ? "" : change.stock_status}`, text: `${count(change.quantity_on_hand)}${isPlain ? "" : ` ${words(change.stock_status)}`}` }));
}

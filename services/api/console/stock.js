// The stock table: filters, pages, and changes that flash as they come.

import { get, serverNow } from "./api.js";
import { at, badge, h, num, put } from "./dom.js";
import { ago, count, moment, signed, words } from "./format.js";
import { Panel } from "./panel.js";

const ROWS = 20;
/** The most that the API gives at once, and so many times names are asked for. */
const MOST = 500;
const NAME_PAGES = 10;
const STATUSES = [["", "All", "stock_rows"], ["in_stock", "In stock", "in_stock"], ["low", "Low", "low"], ["out", "Out", "out"], ["oversold", "Oversold", "oversold"]];

const filter = { q: "", status: "", location: "" };
/** The cursors of the pages up to this one. */
let cursors = [""];
let next = null;
/** Rows on the page by key, in order. */
let shown = new Map();
/** Names of products that were seen, and locations. */
const names = new Map();
const locations = new Set();
/** Changes that are not drawn yet, by key. */
const pending = new Map();
let isDrawing = false;

const keyOf = (row) => JSON.stringify([row.product_id, row.location_id]);

/** The link that opens a product at a location. */
export function productLink(product, location) {
  return `#product?${new URLSearchParams({ id: product, location })}`;
}

/** A product's name where it has been seen. */
export function nameOf(product) {
  return names.get(product) ?? product;
}

/** The table. */
export const stock = new Panel("stock", load);

async function load(signal) {
  const page = await get("/stock", { ...filter, limit: ROWS, cursor: cursors.at(-1) }, signal);
  next = page.next;
  for (const row of page.items) {
    names.set(row.product_id, row.name);
    learn(row.location_id);
  }
  show(page.items);
}

/** Shows how many rows there are in each status. */
export function showCounts(totals) {
  const counts = { ...totals, in_stock: totals.stock_rows - totals.low - totals.out - totals.oversold };
  for (const [value, , key] of STATUSES) put(at(`count-${value || "all"}`), count(counts[key]));
}

/** Fills the list of locations that the filter offers, and learns the names of the first few thousand products. */
export async function learnNames() {
  for (const row of (await get("/stock", { limit: MOST })).items) learn(row.location_id);
  let cursor = null;
  for (let pages = 0; pages < NAME_PAGES; pages += 1) {
    const page = await get("/products", { limit: MOST, cursor });
    for (const { product_id: id, name } of page.items) names.set(id, name);
    if (page.items.length) put(at("currency"), `, ${page.items[0].currency}`);
    cursor = page.next;
    if (!cursor) return;
  }
}

function learn(location) {
  if (locations.has(location) || locations.size >= MOST) return;
  locations.add(location);
  at("locations").append(h("option", { value: location }));
}

function show(items) {
  const body = at("stock-table").tBodies[0];
  const fresh = new Map();
  for (const item of items) {
    const key = keyOf(item);
    const row = shown.get(key) ?? newRow(item);
    fresh.set(key, row);
    // The stream may have been quicker.
    if (!row.item || item.version >= row.item.version) fill(row, item);
  }
  const elements = Array.from(fresh.values(), (row) => row.element);
  shown = fresh;
  if (elements.length !== body.children.length || elements.some((element, i) => body.children[i] !== element)) {
    const focused = body.contains(document.activeElement) ? document.activeElement : null;
    body.replaceChildren(...elements);
    if (focused?.isConnected) focused.focus();
  }
  const isFiltered = filter.q || filter.status || filter.location;
  put(at("stock-empty"), isFiltered ? "Nothing matches these filters." : "No stock yet: load a catalogue.");
  at("stock-empty").hidden = items.length > 0;
  const first = (cursors.length - 1) * ROWS;
  put(at("stock-range"), items.length ? `Rows ${count(first + 1)}–${count(first + items.length)}${next ? "" : ", the last"}` : "");
  at("stock-back").disabled = cursors.length === 1;
  at("stock-next").disabled = !next;
}

function newRow(item) {
  const row = { item: null, hand: num(""), status: h("td"), change: num("", { class: "mid" }), updated: num("", { class: "wide" }), reorder: num("", { class: "wide" }) };
  row.name = h("a", { href: productLink(item.product_id, item.location_id) });
  const product = h("th", { scope: "row" }, row.name, h("span", { class: "id" }, h("span", { text: item.product_id }), h("span", { class: "narrow", text: item.location_id })));
  const place = h("td", { class: "mid", text: item.location_id });
  row.element = h("tr", { onclick: (event) => event.target.closest("a") || getSelection().toString() || row.name.click() },
    product, place, row.hand, row.reorder, row.status, row.change, row.updated);
  return row;
}

function fill(row, item) {
  row.item = item;
  put(row.name, item.name);
  put(row.hand, count(item.quantity_on_hand));
  row.hand.classList.toggle("warn", item.quantity_on_hand < 0);
  put(row.reorder, count(item.reorder_point));
  if (row.status.firstChild?.dataset.status !== item.status) {
    const shownStatus = badge(item.status, words(item.status));
    shownStatus.dataset.status = item.status;
    row.status.replaceChildren(shownStatus);
  }
  showAge(row);
}

function showAge(row) {
  const { version, last_updated: when } = row.item;
  put(row.updated, version === 0 ? "–" : ago(when, serverNow()));
  row.updated.title = version === 0 ? "No change yet" : `${moment(when)}, change ${version}`;
}

/** Lets the ages grow. */
export function showAges() {
  for (const row of shown.values()) showAge(row);
}

/** Takes changes from the stream. They are drawn with the next frame, however many there are. */
export function takeChanges(changes) {
  for (const change of changes) {
    const key = keyOf(change);
    const before = pending.get(key);
    const delta = (before?.delta ?? 0) + change.delta;
    pending.set(key, before && before.version > change.version ? { ...before, delta } : { ...change, delta });
  }
  if (isDrawing) return;
  isDrawing = true;
  requestAnimationFrame(() => {
    isDrawing = false;
    for (const [key, change] of pending) draw(key, change);
    pending.clear();
    stock.touch();
  });
}

function draw(key, change) {
  const row = shown.get(key);
  if (!row) {
    // It may belong on the page now.
    const fits = !filter.location || filter.location === change.location_id;
    if (fits && (filter.status === change.stock_status || (!filter.status && change.version === 1))) stock.soon(2_000);
    return;
  }
  if (change.version <= row.item.version) return;
  const { quantity_on_hand, version, stock_status: status, processed_at: last_updated } = change;
  fill(row, { ...row.item, quantity_on_hand, version, status, last_updated });
  put(row.change, signed(change.delta));
  row.element.classList.remove("up", "down");
  void row.element.offsetWidth; // begins the flash anew
  row.element.classList.add(change.delta > 0 ? "up" : "down");
  if (filter.status && filter.status !== status) stock.soon(2_000);
}

function search() {
  cursors = [""];
  stock.refresh();
}

function statusChoice([value, name]) {
  const radio = h("input", { type: "radio", name: "status", value, checked: value === "" });
  return h("label", {}, radio, h("span", { text: name }), h("span", { class: "n", id: `count-${value || "all"}` }));
}

/** Sets the filters, the pages and the keys up. */
export function setUpStock() {
  at("stock-status").append(...STATUSES.map(statusChoice));
  let timer = null;
  at("stock-filters").addEventListener("submit", (event) => event.preventDefault());
  at("stock-filters").addEventListener("input", (event) => {
    filter.q = at("stock-q").value.trim();
    filter.location = at("stock-location").value.trim();
    filter.status = at("stock-status").querySelector(":checked").value;
    clearTimeout(timer);
    timer = setTimeout(search, event.target.type === "search" ? 250 : 0);
  });
  at("stock-next").addEventListener("click", () => turn(() => cursors.push(next)));
  at("stock-back").addEventListener("click", () => turn(() => cursors.pop()));
  at("stock-table").tBodies[0].addEventListener("keydown", walk);
}

async function turn(change) {
  change();
  await stock.refresh();
  at("stock-table").scrollIntoView({ block: "nearest" });
}

/** Up and down go from row to row. */
function walk(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const row = event.target.closest("tr");
  if (!step || !row || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  const other = step > 0 ? row.nextElementSibling : row.previousElementSibling;
  other?.querySelector("a").focus();
}


// A product: its stock by location, the history of one of them, and the movements behind it.

import { Failure, get, serverNow } from "./api.js";
import { history as drawing } from "./charts.js";
import { at, badge, h, num, put, time } from "./dom.js";
import { amount, ago, count, moment, signed, words } from "./format.js";

const ROWS = 100;
const REFRESH_MS = 700;

/** What is open; null: nothing. */
let open = null;
let timer = null;

/** Opens and closes by the address, so that Back does what one expects. */
export function follow() {
  const [name, query] = location.hash.slice(1).split(/\?(.*)/s);
  const wanted = new URLSearchParams(query ?? "");
  if (name !== "product" || !wanted.get("id")) {
    if (at("product").open) at("product").close();
    return;
  }
  show(wanted.get("id"), wanted.get("location"));
}

async function show(id, place) {
  const isNew = open?.id !== id;
  open = { id, place, movements: isNew ? [] : open.movements, next: null, isLong: false, abort: new AbortController() };
  if (isNew) clear(id);
  if (!at("product").open) at("product").showModal();
  if (isNew) at("product-name").focus();
  await read(open);
}

function clear(id) {
  put(at("product-name"), id);
  put(at("product-facts"), "…");
  for (const part of ["product-places", "product-spark"]) at(part).replaceChildren();
  at("movements").tBodies[0].replaceChildren();
  for (const part of ["movements-empty", "movements-more", "product-problem"]) at(part).hidden = true;
}

async function read(wanted, cursor = null) {
  try {
    const path = `/products/${encodeURIComponent(wanted.id)}/stock`;
    const found = await get(path, { limit: ROWS, location: wanted.place, cursor }, wanted.abort.signal);
    if (open !== wanted) return;
    if (!wanted.place && found.locations.length) {
      wanted.place = found.locations.reduce((most, row) => (row.version > most.version ? row : most)).location_id;
      return await read(wanted);
    }
    wanted.movements = cursor ? wanted.movements.concat(found.movements.items) : found.movements.items;
    wanted.isLong = cursor !== null;
    wanted.next = found.movements.next;
    wanted.locations = found.locations;
    at("product-problem").hidden = true;
    draw(found.product);
  } catch (error) {
    if (!(error instanceof Failure) || open !== wanted) return;
    put(at("product-problem"), `${error.message}.`);
    at("product-problem").hidden = false;
  }
}

function draw(product) {
  const { place, locations, movements } = open;
  put(at("product-name"), product.name);
  const reorder = product.reorder_point === null ? "no reorder point" : `reorder at ${count(product.reorder_point)}`;
  const facts = [product.product_id, product.category, `${amount(product.price)} ${product.currency}`, reorder, product.kind === "service" ? "a service, moves no stock" : ""];
  put(at("product-facts"), facts.filter(Boolean).join(" · "));
  drawPlaces(locations, place);
  const row = locations.find((one) => one.location_id === place);
  const points = pointsOf(movements, row);
  at("product-spark").replaceChildren(...(points.length ? drawing(points, product.reorder_point) : []));
  at("movements").tBodies[0].replaceChildren(...movements.map(movementRow));
  at("movements").hidden = movements.length === 0;
  at("movements-empty").hidden = movements.length > 0;
  at("movements-more").hidden = !open.next;
}

function drawPlaces(locations, place) {
  const focused = at("product-places").contains(document.activeElement);
  at("product-places").replaceChildren(...locations.map((row) => {
    const choose = () => location.replace(`#product?${new URLSearchParams({ id: open.id, location: row.location_id })}`);
    return h("button", { type: "button", class: "place", "aria-pressed": String(row.location_id === place), onclick: choose },
      h("span", { class: "place-name", text: row.location_id }), h("strong", { text: count(row.quantity_on_hand) }), badge(row.status, words(row.status)),
      h("span", { class: "soft", text: row.version ? `change ${count(row.version)}, ${ago(row.last_updated, serverNow())}` : "no change yet" }));
  }));
  if (focused) at("product-places").querySelector("[aria-pressed=true]")?.focus();
}

/** Units after each change, the oldest first. Lines of one event on one stock row share its version. */
function pointsOf(movements, row) {
  const after = new Map();
  for (const movement of movements) after.set(movement.version, movement.quantity_after);
  const versions = [...after.keys()].sort((one, other) => one - other);
  const points = versions.map((version) => after.get(version));
  if (row && (versions[0] === 1 || !versions.length)) points.unshift(row.opening_quantity);
  return points;
}

function movementRow(movement) {
  const source = `${words(movement.source)} ${movement.business_id}`;
  const said = `applied ${moment(movement.processed_at)}; partition ${movement.partition}, offset ${movement.offset}; event ${movement.event_id}`;
  return h("tr", { title: said }, h("td", {}, time(movement.occurred_at, moment(movement.occurred_at, serverNow()))), h("td", { text: words(movement.kind) }),
    num(signed(movement.line_delta), { class: movement.line_delta > 0 ? "more" : "less" }), num(count(movement.quantity_after), { class: movement.quantity_after < 0 ? "warn" : "" }),
    h("td", { class: "mid wrap", text: source }));
}

/** Reads the open product anew when it changes, unless older movements are being looked through. */
export function takeProductChanges(changes) {
  if (open && changes.some((change) => change.product_id === open.id)) rereadProduct();
}

/** Reads it anew soon. */
export function rereadProduct() {
  if (!open || open.isLong || timer !== null) return;
  timer = setTimeout(() => {
    timer = null;
    if (open && !open.isLong) read(open);
  }, REFRESH_MS);
}

/** Sets the dialog up. */
export function setUpProduct() {
  const dialog = at("product");
  at("product-close").addEventListener("click", () => dialog.close());
  at("movements-more").addEventListener("click", () => read(open, open.next));
  // Beside the sheet.
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => {
    open?.abort.abort();
    open = null;
    if (location.hash.startsWith("#product")) history.replaceState(null, "", location.pathname);
  });
  addEventListener("hashchange", follow);
  follow();
}

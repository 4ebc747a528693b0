// Statistics: totals, months, and who bought most.

import { get } from "./api.js";
import { bar } from "./charts.js";
import { at, h, num, put } from "./dom.js";
import { amount, average, count, month } from "./format.js";
import { Panel } from "./panel.js";

const USERS = 10;
const MONTHS = 12;
/** The first look for the last month that sold anything goes so far back. */
const LOOK_BACK = 240;

let by = "spend";
/** The last month that is shown, as months since the year 0; null: not looked yet. */
let end = null;
/** Months later than `end` are looked for until somebody turns back. */
let isFollowing = true;

const thisMonth = () => new Date().getUTCFullYear() * 12 + new Date().getUTCMonth();
const named = (number) => `${String(Math.floor(number / 12)).padStart(4, "0")}-${String((number % 12) + 1).padStart(2, "0")}`;

/** The statistics. */
export const sales = new Panel("sales", load);

async function load(signal) {
  const [global, top] = await Promise.all([get("/stats/global", {}, signal), get(`/stats/top/${USERS}`, { by }, signal), loadMonths(signal)]);
  showTotals(global);
  showTop(top.items);
}

async function loadMonths(signal) {
  const last = isFollowing ? thisMonth() : end;
  const first = end === null ? last - LOOK_BACK + 1 : end - MONTHS + 1;
  const { months } = await get("/stats/monthly", { start: named(first), end: named(last) }, signal);
  let to = months.length - 1;
  if (isFollowing) {
    // What sold last may be long ago: the demo's sales are of 2010.
    const sold = months.findLastIndex((one) => one.orders > 0 || one.returns > 0);
    to = Math.max(sold < 0 ? months.length - 1 : sold, Math.min(MONTHS, months.length) - 1);
    end = first + to;
  }
  showMonths(months.slice(Math.max(0, to - MONTHS + 1), to + 1));
}

function showTotals({ total_orders: orders, total_revenue: revenue, sources, all_sources: all }) {
  const store = sources.find((one) => one.source === "store_sales");
  const figures = [["Online orders", count(orders)], ["Online revenue", amount(revenue)], ["Store sales", count(store?.orders)], ["Store revenue", amount(store?.revenue)],
    ["Units sold", count(all.units)], ["Returned", amount(all.returned_value)]];
  at("totals").replaceChildren(...figures.map(([name, value]) => h("div", {}, h("dt", { text: name }), h("dd", { text: value }))));
}

function showMonths(months) {
  // Only a bar's length is read as a binary number.
  const most = Math.max(1, ...months.map((one) => Number(one.revenue)));
  at("months").tBodies[0].replaceChildren(...months.toReversed().map((one) => h("tr", {}, h("th", { scope: "row", text: month(one.month) }),
    h("td", { class: "bar-cell" }, bar(Number(one.revenue) / most)), num(count(one.orders)), num(amount(one.revenue)))));
  put(at("months-unit"), "online orders");
  at("months-later").disabled = end >= thisMonth();
}

function showTop(users) {
  at("top-users").tBodies[0].replaceChildren(...users.map((user, i) => h("tr", {}, num(String(i + 1), { class: "rank soft" }), h("th", { scope: "row", class: "wrap", text: user.user_id }),
    num(count(user.order_count)), num(amount(user.total_spend)), num(average(user.average_order), { class: "wide" }))));
  at("top-empty").hidden = users.length > 0;
}

function turn(months) {
  isFollowing = false;
  end = Math.min(thisMonth(), (end ?? thisMonth()) + months);
  sales.refresh();
}

/** Sets the buttons up. */
export function setUpSales() {
  at("months-earlier").addEventListener("click", () => turn(-MONTHS));
  at("months-later").addEventListener("click", () => turn(MONTHS));
  at("top-by").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    by = button.dataset.by;
    for (const one of at("top-by").querySelectorAll("button")) one.setAttribute("aria-pressed", String(one === button));
    sales.refresh();
  });
}

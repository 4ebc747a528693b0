// Runs of scheduled jobs, and the newest daily report.

import { get, serverNow } from "./api.js";
import { at, badge, h, num, time } from "./dom.js";
import { ago, amount, count, many, moment, took, words } from "./format.js";
import { Panel } from "./panel.js";

const RUNS = 10;
const SELLERS = 5;

/** Which report is shown, as its day and revision. */
let shownReport = "";

/** The runs and the report. */
export const jobs = new Panel("jobs", load);

async function load(signal) {
  const [runs, reports] = await Promise.all([get("/jobs/runs", { limit: RUNS }, signal), get("/reports", { limit: 1 }, signal)]);
  at("runs").tBodies[0].replaceChildren(...runs.items.flatMap(runRows));
  at("runs").hidden = runs.items.length === 0;
  at("runs-empty").hidden = runs.items.length > 0;
  const newest = reports.items[0];
  const key = newest ? `${newest.report_date} ${newest.revision}` : "";
  if (!newest || key === shownReport) return;
  showReport(await get(`/reports/${newest.report_date}`, {}, signal));
  shownReport = key;
}

function runRows(run) {
  const tries = run.attempts > 1 ? ` (attempt ${run.attempts})` : "";
  const when = run.finished_at ?? run.started_at ?? run.created_at;
  const row = h("tr", {}, h("th", { scope: "row" }, h("span", { text: words(run.job) }), h("span", { class: "id", text: run.cause })), h("td", { class: "tab", text: run.data_date }),
    h("td", {}, badge(run.state, run.state), tries), num(count(run.rows), { class: "wide" }), num(took(run.seconds), { class: "mid" }),
    h("td", { class: "num mid" }, time(when, ago(when, serverNow()))));
  return run.error ? [row, h("tr", { class: "after" }, h("td", { colspan: "6", class: "wrap warn", text: run.error }))] : [row];
}

function showReport({ report_date: date, revision, figures, created_at: made, figures_sha256: digest }) {
  const { total } = figures.sales;
  const low = figures.low_stock.rows.length;
  const { oversold, value_mismatches: mismatches, late_events: late, rejects } = figures.data_quality;
  const sums = [["Gross sales", amount(total.gross)], ["Net sales", amount(total.net)], ["Orders", count(total.orders)], ["Units", count(total.units)]];
  const quality = [many(low, "stock row") + " low or out", `${count(oversold.at_end)} oversold`, many(rejects.records, "reject"), `${count(late.events)} late`, many(mismatches.orders, "value mismatch").replace("mismatchs", "mismatches")];
  const sellers = figures.top_sellers.by_revenue.slice(0, SELLERS).map((one) => h("tr", {}, num(String(one.rank), { class: "rank soft" }),
    h("th", { scope: "row", class: "wrap", text: one.name }), num(count(one.units)), num(amount(one.revenue))));
  at("report-body").replaceChildren(
    h("p", { class: "report-head" }, h("strong", { class: "tab", text: date }), h("span", { class: "soft", text: `revision ${revision}, made ${moment(made)}, business day of ${figures.day.timezone}` })),
    h("dl", { class: "totals four" }, ...sums.map(([name, value]) => h("div", {}, h("dt", { text: name }), h("dd", { text: value })))),
    h("p", { class: "chips" }, ...quality.map((text) => h("span", { class: "chip", text }))),
    h("table", {}, h("caption", { class: "sr", text: "The day's best sellers by revenue" }),
      h("thead", {}, h("tr", {}, h("th", { scope: "col", class: "num rank", text: "#" }), h("th", { scope: "col", text: "Best sellers" }), h("th", { scope: "col", class: "num", text: "Units" }), h("th", { scope: "col", class: "num", text: "Revenue" }))),
      h("tbody", {}, ...sellers)),
    h("p", { class: "digest soft", title: "SHA-256 of the figures", text: `figures ${digest.slice(0, 16)}…` }));
}

// Throughput, lag and fates: what /status says.

import { at, h, num, put, time } from "./dom.js";
import { ago, clock, count, many, rate, words } from "./format.js";
import { area, shares } from "./charts.js";
import { serverNow } from "./api.js";

/** Looks in two minutes. */
const SLOTS = 60;
/** A lag of a few records is nothing: it must not look like a mountain. */
const QUIET_LAG = 50;
/** Beyond it the API counts no further. */
const MOST_COUNTED = 10_000;
const FATES = [["applied", "Applied"], ["duplicates", "Duplicate"], ["rejected", "Rejected"], ["parked", "Parked"]];

/** Shows a look. */
export function showFlow(status) {
  put(at("flow-as-of"), status.at ? `as of ${clock(status.at)}` : "not looked at yet");
  put(at("rate"), rate(status.records_per_second));
  put(at("lag"), status.lag === null ? "unknown" : count(status.lag));
  const rates = status.history.map((look) => look.records_per_second);
  const lags = status.history.map((look) => look.lag);
  const [fastest, longest] = [Math.max(0, ...rates), Math.max(0, ...lags.filter((lag) => lag !== null))];
  at("rate-chart").replaceChildren(area(rates, SLOTS, `Records a second over two minutes: at most ${rate(fastest)}, now ${rate(status.records_per_second)}`, 1));
  at("lag-chart").replaceChildren(area(lags, SLOTS, `Records that waited over two minutes: at most ${count(longest)}, now ${count(status.lag)}`, QUIET_LAG));
  put(at("rate-peak"), `peak ${rate(fastest)}/s`);
  put(at("lag-peak"), `peak ${count(longest)}`);
  showFates(status);
  at("topics").tBodies[0].replaceChildren(...status.topics.map(topicRow));
}

function showFates({ fates }) {
  const all = fates.applied + fates.duplicates + fates.rejected + fates.parked;
  put(at("settled"), count(all));
  const said = FATES.map(([key, name]) => `${name.toLowerCase()} ${count(fates[key])}`).join(", ");
  at("fate-shares").replaceChildren(shares(FATES.map(([name]) => ({ name, value: fates[name] })), `Of ${many(all, "record")}: ${said}`));
  at("fates").replaceChildren(...FATES.map(([key, name]) =>
    h("div", {}, h("dt", {}, h("span", { class: `key ${key}`, "aria-hidden": "true" }), name), h("dd", { text: count(fates[key]) }))));
}

function topicRow(topic) {
  return h("tr", {}, h("th", { scope: "row", text: words(topic.topic) }), num(count(topic.applied)), num(count(topic.duplicates), { class: "mid" }),
    num(count(topic.rejected), { class: topic.rejected ? "warn" : "" }), num(count(topic.parked), { class: "wide" }),
    num(topic.lag === null ? "unknown" : count(topic.lag)),
    h("td", { class: "num mid" }, time(topic.last_processed_at, ago(topic.last_processed_at, serverNow()))));
}

/** Shows how payments stand, and what did not add up. */
export function showPayments(totals) {
  const upTo = (number) => (number > MOST_COUNTED ? `over ${count(MOST_COUNTED)}` : count(number));
  const figures = [["Payments joined", count(totals.payment_events)], ["Waiting for their order", count(totals.parked)],
    ["Of another amount", upTo(totals.amount_mismatches)], ["Order values corrected", upTo(totals.value_mismatches)]];
  at("payments").replaceChildren(...figures.map(([name, value]) => h("div", {}, h("dt", { text: name }), h("dd", { text: value }))));
}

// Rejected records: why, and what they held. A record may hold anything, so all of it is shown as text.

import { get } from "./api.js";
import { shown } from "./bytes.js";
import { bar } from "./charts.js";
import { at, badge, h, put, time } from "./dom.js";
import { count, many, moment, words } from "./format.js";
import { Panel } from "./panel.js";

const ROWS = 12;
const MOST_ROWS = 200;

let reason = "";
let next = null;
/** Elements by the records' coordinates. */
const kept = new Map();

const keyOf = (record) => `${record.topic}/${record.partition}@${record.offset}`;

/** Changes when somebody deals with it. */
const stampOf = ({ state, handled }) => `${state} ${handled?.at ?? ""}`;

/** The rejects. */
export const rejects = new Panel("rejects", load);

async function load(signal) {
  const [page, reasons] = await Promise.all([get("/dlq", { limit: ROWS, reason }, signal), get("/dlq/reasons", {}, signal)]);
  showReasons(reasons.items);
  const isFollowing = page.items.some((record) => kept.has(keyOf(record)));
  // With a gap between what is shown and what is new, what is shown goes.
  if (!isFollowing) {
    kept.clear();
    at("reject-list").replaceChildren();
    next = page.next;
  }
  for (const record of page.items) {
    const old = kept.get(keyOf(record));
    if (old && old.dataset.stamp !== stampOf(record)) {
      const fresh = entry(record);
      old.replaceWith(fresh);
      fresh.open = old.open;
    }
  }
  at("reject-list").prepend(...page.items.filter((record) => !kept.has(keyOf(record))).map(entry));
  while (at("reject-list").children.length > MOST_ROWS) dropLast();
  showEnd();
}

function dropLast() {
  const last = at("reject-list").lastElementChild;
  kept.delete(last.dataset.key);
  last.remove();
}

async function older() {
  const page = await get("/dlq", { limit: ROWS, reason, cursor: next });
  next = page.next;
  at("reject-list").append(...page.items.filter((record) => !kept.has(keyOf(record))).map(entry));
  showEnd();
}

function showEnd() {
  at("rejects-empty").hidden = at("reject-list").children.length > 0;
  at("rejects-more").hidden = !next || at("reject-list").children.length >= MOST_ROWS;
}

/** The same reason of several topics in one. */
function byReason(items) {
  const found = new Map();
  for (const { reason: code, topic, records } of items) {
    const one = found.get(code) ?? { code, topics: [], records: 0 };
    one.topics.push(words(topic));
    one.records += records;
    found.set(code, one);
  }
  return [...found.values()].sort((one, other) => other.records - one.records);
}

function showReasons(found) {
  const items = byReason(found);
  const most = Math.max(1, ...items.map((item) => item.records));
  const focused = at("reasons").contains(document.activeElement) ? document.activeElement.dataset.key : null;
  at("reasons").replaceChildren(...items.map((item) => {
    const { code, topics } = item;
    const button = h("button", { type: "button", "aria-pressed": String(code === reason), "data-key": code, onclick: () => choose(code === reason ? "" : code) },
      h("span", { class: "reason-name" }, h("span", { text: words(code) }), h("span", { class: "soft", text: topics.join(", ") })),
      h("span", { class: "num", text: count(item.records) }), bar(item.records / most));
    return h("li", {}, button);
  }));
  if (focused) at("reasons").querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  at("reasons-empty").hidden = items.length > 0;
}

function choose(code) {
  reason = code;
  put(at("rejects-what"), code ? `Newest: ${words(code)}` : "Newest");
  at("rejects-all").hidden = !code;
  kept.clear();
  rejects.refresh();
}

function entry(record) {
  const key = keyOf(record);
  const details = h("details", { "data-key": key, "data-stamp": stampOf(record) },
    h("summary", {}, h("span", { class: "when" }, time(record.processed_at, moment(record.processed_at))), badge("rejected", words(record.reason)), ...stateOf(record),
      h("span", { class: "what", text: record.detail ?? "" }), h("span", { class: "where", text: key })));
  // Most are never opened.
  details.addEventListener("toggle", () => details.open && details.children.length === 1 && details.append(inside(record)));
  kept.set(key, details);
  return details;
}

/** What became of it, where something did. */
function stateOf({ state, replays }) {
  const told = [state === "open" ? "" : words(state), replays > 0 ? `came back ${replays}×` : ""].filter(Boolean);
  return told.length ? [h("span", { class: "soft", text: told.join(", ") })] : [];
}

function handling({ handled, state }) {
  if (!handled) return state === "applied" ? "its event was applied since" : null;
  const place = handled.sent_offset === null ? "" : `, as offset ${handled.sent_offset}`;
  return `${words(handled.action)} ${handled.at} by ${handled.by}${place}${handled.note ? `: ${handled.note}` : ""}`;
}

const earlier = ({ offset, rejected_at, reason, replayed_at, by_whom }) =>
  `offset ${offset}: ${words(reason ?? "")} ${rejected_at}, replayed ${replayed_at} by ${by_whom}`;

function inside(record) {
  const facts = [["Detail", record.detail], ["Record", `${record.topic}, partition ${record.partition}, offset ${record.offset}`], ["Event", record.event_id], ["Rejected", record.processed_at],
    ["State", words(record.state)], ["Handled", handling(record)], ...record.history.map((one) => ["Before", earlier(one)])];
  const list = h("dl", { class: "facts" }, ...facts.filter(([, value]) => value).map(([name, value]) => h("div", {}, h("dt", { text: name }), h("dd", { text: value }))));
  return h("div", { class: "inside" }, list, ...bytesOf("Key", record.key, null, false), ...bytesOf("Value", record.value, record.value_bytes, record.redacted));
}

function bytesOf(name, bytes, whole, isRedacted) {
  if (!bytes) return [h("p", { class: "bytes-title" }, h("strong", { text: name }), h("span", { class: "soft", text: name === "Key" ? "none" : "none: a tombstone" }))];
  const { text, isEscaped } = shown(bytes);
  const notes = [bytes.encoding === "utf-8" ? "UTF-8" : "not UTF-8", whole === null ? "" : many(whole, "byte"), isEscaped ? "what does not print is escaped" : "",
    isRedacted ? "card numbers masked" : "", whole > 4096 ? "the first 4,096 bytes are shown" : ""];
  return [h("p", { class: "bytes-title" }, h("strong", { text: name }), h("span", { class: "soft", text: notes.filter(Boolean).join(", ") })),
    h("pre", { class: "bytes", tabindex: "0", "aria-label": `${name} of the record`, text })];
}

/** Sets the buttons up. */
export function setUpRejects() {
  at("rejects-all").addEventListener("click", () => choose(""));
  at("rejects-more").addEventListener("click", () => older().catch(() => rejects.refresh()));
}

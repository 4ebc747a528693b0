// What the page knows of its connection, in words: whether what it shows is of now, and if not, since when.

import { hasToken, serverNow } from "./api.js";
import { at, put } from "./dom.js";
import { clock } from "./format.js";

/** The API looks every 2 s; older than this its figures are stale. */
const STALE_MS = 10_000;
/** A stream may be away for so long before it is worth a word. */
const GRACE_MS = 1_500;

const known = {
  isPaused: false,
  /** The last answer of /status, and when it came. */
  status: null,
  answeredAt: 0,
  failure: null,
  failingSince: 0,
  retryAt: 0,
  stream: { open: false, failure: null, retryAt: 0, since: Date.now() },
};
/** When each part was first seen not working. */
const partsSince = new Map();

/** Notes an answer of /status. */
export function noteAnswer(status) {
  Object.assign(known, { status, answeredAt: Date.now(), failure: null, failingSince: 0 });
  for (const [name, part] of Object.entries(status.parts)) {
    if (part.ok) partsSince.delete(name);
    else if (!partsSince.has(name)) partsSince.set(name, Date.now());
  }
  show();
}

/** Notes that /status was not answered, and when it is asked again. */
export function noteFailure(failure, retryAt) {
  known.failure = failure;
  known.failingSince ||= Date.now();
  known.retryAt = retryAt;
  show();
}

/** Notes how the stream stands. */
export function noteStream({ open, failure = null, retryAt = 0 }) {
  const since = open === known.stream.open ? known.stream.since : Date.now();
  known.stream = { open, failure, retryAt, since };
  show();
}

/** The tab is hidden, or is seen again. */
export function notePaused(isPaused) {
  known.isPaused = isPaused;
  if (!isPaused) known.stream.since = Date.now();
  show();
}

function part(name) {
  return known.status.parts[name] ?? { ok: true };
}

/** `{state, word, text, retryAt}`: the worst that is known. */
function judged() {
  const { failure, status, stream } = known;
  const figures = known.answeredAt ? ` The figures are of ${clock(known.answeredAt)}.` : "";
  if (known.isPaused) return { state: "paused", word: "Paused", text: "" };
  if (failure?.isRefusal) {
    const text = hasToken() ? `The token is not accepted: ${failure.message}.` : `A token is needed: ${failure.message}.`;
    return { state: "refused", word: "Locked", text: text + figures };
  }
  if (failure) {
    const since = clock(known.failingSince);
    return { state: "down", word: `Disconnected since ${since}`, text: `Disconnected since ${since}: ${failure.message}.${figures}`, retryAt: known.retryAt };
  }
  if (!status) return { state: "connecting", word: "Connecting", text: "" };
  return staleness() ?? (stream.open ? { state: "live", word: "Live", text: "" } : interrupted());
}

function staleness() {
  const { status } = known;
  const isOld = !status.at || serverNow() - Date.parse(status.at) > STALE_MS;
  if (!part("database").ok || isOld) {
    const since = status.at ?? new Date(partsSince.get("database") ?? known.answeredAt).toISOString();
    const why = part("database").detail ?? "the API has not looked since";
    return { state: "stale", word: `Stale since ${clock(since)}`, text: `Stale since ${clock(since)}: ${why}. Nothing here is newer than that.` };
  }
  if (part("kafka").ok) return null;
  const since = clock(partsSince.get("kafka") ?? known.answeredAt);
  const text = `No Kafka since ${since}: ${part("kafka").detail}. The lag is unknown, and changes do not come by themselves; the rest is of now.`;
  return { state: "stale", word: `No Kafka since ${since}`, text };
}

function interrupted() {
  const { stream } = known;
  if (Date.now() - stream.since < GRACE_MS) return { state: "live", word: "Live", text: "" };
  const since = clock(stream.since);
  const why = stream.failure ? `: ${stream.failure.message}` : "";
  return { state: "stale", word: `No changes since ${since}`, text: `No live changes since ${since}${why}. What was missed comes with the next connection.`, retryAt: stream.retryAt };
}

let shownState = "";

/** Shows it. Only a new state is announced, not the seconds until the next attempt. */
export function show() {
  const { state, word, text, retryAt } = judged();
  document.body.dataset.state = state;
  put(at("state-word"), word);
  at("banner").hidden = text === "";
  put(at("banner-text"), text);
  const seconds = Math.ceil(((retryAt ?? 0) - Date.now()) / 1000);
  put(at("banner-retry"), retryAt ? (seconds > 0 ? `Next attempt in ${seconds} s` : "Trying…") : "");
  at("banner-now").hidden = !retryAt;
  at("banner-token").hidden = state !== "refused";
  document.title = { live: "Stocktide", paused: "Stocktide", connecting: "Stocktide" }[state] ?? `(${state}) Stocktide`;
  if (state === shownState) return;
  const isFirst = shownState === "" || shownState === "connecting" || shownState === "paused";
  shownState = state;
  if (state === "live") put(at("announce"), isFirst ? "" : "Connected again: live.");
  else if (text) put(at("announce"), text);
}

/** Whether live changes come. */
export function isLive() {
  return judged().state === "live";
}

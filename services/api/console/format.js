// Figures and times as people read them.

const whole = new Intl.NumberFormat("en-GB");
const clockTime = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const dayAndTime = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const yearToo = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const monthName = new Intl.DateTimeFormat("en-GB", { month: "short", year: "numeric", timeZone: "UTC" });

const HOUR = 3_600_000;

/** A whole number in groups of three; a dash for none. */
export function count(number) {
  return typeof number === "number" ? whole.format(number).replace("-", "\u2212") : "–";
}

/** Records a second: decimals only where there are few. */
export function rate(number) {
  if (typeof number !== "number") return "–";
  return number > 0 && number < 10 ? number.toFixed(1) : count(Math.round(number));
}

/** A change, with its sign. */
export function signed(number) {
  return number > 0 ? `+${count(number)}` : count(number);
}

/** A decimal text in groups of three. It is never read as a binary number. */
export function amount(text) {
  const parts = /^(-?)(\d+)(\.\d+)?$/.exec(text ?? "");
  if (!parts) return text ?? "–";
  const [, sign, units, places = ""] = parts;
  return `${sign && "\u2212"}${units.replace(/\B(?=(\d{3})+$)/g, ",")}${places}`;
}

/** An average in cents: beyond them it says nothing. */
export function average(text) {
  return text === null ? "–" : amount(Number(text).toFixed(2));
}

/** The time of day. */
export function clock(when) {
  return clockTime.format(new Date(when));
}

/** The time of day, with the day where it is not today's, and the year where it is not this year's. */
export function moment(iso, now = Date.now()) {
  if (!iso) return "–";
  const [then, today] = [new Date(iso), new Date(now)];
  if (then.toDateString() === today.toDateString()) return clockTime.format(then);
  return (then.getFullYear() === today.getFullYear() ? dayAndTime : yearToo).format(then);
}

/** How long ago, in the largest fitting unit; a moment beyond a day. */
export function ago(iso, now = Date.now()) {
  if (!iso) return "–";
  const passed = Math.max(0, now - Date.parse(iso));
  if (passed < 60_000) return `${Math.floor(passed / 1000)} s ago`;
  if (passed < HOUR) return `${Math.floor(passed / 60_000)} min ago`;
  return passed < 24 * HOUR ? `${Math.floor(passed / HOUR)} h ago` : moment(iso, now);
}

/** A length of time. */
export function took(seconds) {
  if (typeof seconds !== "number") return "–";
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

/** `2011-11` as a month's name. */
export function month(text) {
  return monthName.format(new Date(`${text}-01T00:00:00Z`));
}

/** A code such as `in_stock` in words. */
export function words(code) {
  return String(code ?? "").replaceAll("_", " ");
}

/** `1 row`, `2 rows`. */
export function many(number, one) {
  return `${count(number)} ${one}${number === 1 ? "" : "s"}`;
}

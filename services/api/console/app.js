// The console: asks /status every other second, follows the stream, and reads the rest when something has changed.

import { Failure, get } from "./api.js";
import * as connection from "./connection.js";
import { at, put } from "./dom.js";
import { showFlow, showPayments } from "./flow.js";
import { jobs } from "./jobs.js";
import { Panel } from "./panel.js";
import { rereadProduct, setUpProduct, takeProductChanges } from "./product.js";
import { rejects, setUpRejects } from "./rejects.js";
import { sales, setUpSales } from "./sales.js";
import { learnNames, setUpStock, showAges, showCounts, stock, takeChanges } from "./stock.js";
import { Stream } from "./stream.js";
import { showRate, tick } from "./ticker.js";
import { setUpToken } from "./token.js";

const EVERY_MS = 2_000;
const LONGEST_WAIT_MS = 5_000;
/** After a longer pause what was missed is not asked for: all is read anew. */
const LONG_PAUSE_MS = 60_000;
/** How often each part is read at most, when what it shows has changed. */
const AT_MOST = { rejects: 2_000, sales: 5_000, counts: 5_000 };
const JOBS_EVERY_MS = 10_000;
/** Stock is read anew even if no change came: the catalogue may have changed. */
const STOCK_EVERY_MS = 30_000;

const counts = new Panel("counts", async (signal) => {
  const totals = await get("/metrics", {}, signal);
  showCounts(totals);
  showPayments(totals);
});
let before = null;
/** Set while and once names are known. */
let isNamed = null;
let failures = 0;
let timer = null;
let pausedAt = 0;

const stream = new Stream({
  changes(list) {
    takeChanges(list);
    tick(list);
    takeProductChanges(list);
  },
  reset: readStock,
  state(state) {
    connection.noteStream(state);
    // What changed before the stream began is not in it.
    if (state.open && state.isNew) readStock();
    if (!state.open && state.failure.isSilence) look();
  },
});

function readStock() {
  stock.refresh();
  rereadProduct();
}

/** Asks for /status, and again after a while. */
async function look() {
  clearTimeout(timer);
  timer = null;
  if (document.hidden) return;
  let wait = EVERY_MS;
  try {
    const status = await get("/status");
    connection.noteAnswer(status);
    showFlow(status);
    readChanged(status);
    if (failures > 0) stream.now();
    failures = 0;
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    failures += 1;
    wait = Math.max(error.retryAfter * 1000, Math.min(LONGEST_WAIT_MS, 500 * 2 ** failures));
    before = null;
    connection.noteFailure(error, Date.now() + wait);
  } finally {
    // Another look may have begun meanwhile.
    clearTimeout(timer);
    timer = setTimeout(look, wait);
  }
}

/** Reads what may have changed since the last look; everything at the first one and after a failure. */
function readChanged(status) {
  const now = { rejected: status.fates.rejected, applied: status.fates.applied };
  if (before === null) readAll();
  else {
    if (now.rejected !== before.rejected) rejects.soon(AT_MOST.rejects);
    else rejects.holds();
    if (now.applied !== before.applied) {
      sales.soon(AT_MOST.sales);
      counts.soon(AT_MOST.counts);
    } else sales.holds();
    if (connection.isLive()) stock.holds();
  }
  before = now;
}

function readAll() {
  for (const panel of [stock, counts, rejects, sales, jobs]) panel.refresh();
  rereadProduct();
  isNamed ||= learnNames().catch(() => {
    // Then the ticker shows ids, until all is read again.
    isNamed = null;
  });
}

function pause() {
  if (document.hidden) {
    pausedAt = Date.now();
    stream.stop();
    clearTimeout(timer);
  } else {
    if (Date.now() - pausedAt > LONG_PAUSE_MS) stream.forget();
    before = null;
    stream.start();
    look();
  }
  connection.notePaused(document.hidden);
}

function again() {
  stream.stop();
  stream.start();
  before = null;
  look();
}

setUpStock();
setUpProduct();
setUpRejects();
setUpSales();
setUpToken(again);
at("banner-now").addEventListener("click", () => {
  stream.now();
  look();
});
put(at("zone"), Intl.DateTimeFormat().resolvedOptions().timeZone);
document.addEventListener("visibilitychange", pause);
setInterval(() => {
  if (document.hidden) return;
  connection.show();
  showRate();
}, 1_000);
setInterval(() => document.hidden || showAges(), 5_000);
setInterval(() => document.hidden || jobs.soon(0), JOBS_EVERY_MS);
setInterval(() => document.hidden || stock.soon(0), STOCK_EVERY_MS);
if (!document.hidden) stream.start();
connection.notePaused(document.hidden);
look();

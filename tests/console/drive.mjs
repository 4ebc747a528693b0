// Drives a real browser through the console, step by step. What happens outside the page (events, the API's end and return)
// is asked for on stdout, a line of JSON each, and answered on stdin; see tests/api/console.rs.
//
//   node drive.mjs BASE MODULES CHROMIUM PICTURES

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { contrasts } from "./contrast.mjs";
import { awaySteps } from "./away.mjs";
import { lookSteps } from "./look.mjs";
import { liveSteps } from "./live.mjs";

const [base, modules, executablePath, pictures] = process.argv.slice(2);
const { chromium } = createRequire(join(modules, "package.json"))("playwright-core");
const PATIENCE_MS = 15_000;

const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** Has something done outside. */
async function ask(what) {
  process.stdout.write(`ask ${JSON.stringify(what)}\n`);
  const { value } = await answers.next();
  assert.equal(value, "done", `${JSON.stringify(what)}: ${value}`);
}

/** Tries until it holds, or for as long as patience lasts. */
async function eventually(check) {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    try {
      return await check();
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const browser = await chromium.launch({ executablePath, args: FLAGS });

/** What a page complained of: scripts that failed, files that were not there, what the policy did not allow. */
const complaints = [];

/** A page of its own on the console, once it is live. */
async function open({ path = "/", wait = "live", ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, locale: "en-GB", timezoneId: "UTC", ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  page.on("pageerror", (error) => complaints.push(error.stack));
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && complaints.push(message.text()));
  page.on("dialog", (dialog) => {
    complaints.push(`a script said ${dialog.message()}`);
    dialog.dismiss();
  });
  await page.goto(base + path);
  await state(page, wait);
  return page;
}

/** Waits for a state of the connection. */
async function state(page, wanted) {
  await page.waitForSelector(`body[data-state="${wanted}"]`);
}

const tools = { assert, ask, base, contrasts, eventually, open, state };
let failed = null;
try {
  // A step says what the browser is expected to complain of.
  for (const [name, step, { complains = /^$/ } = {}] of [...liveSteps, ...lookSteps, ...awaySteps]) {
    const began = Date.now();
    failed = name;
    await step(tools);
    assert.deepEqual(complaints.splice(0).filter((text) => !complains.test(text)), [], "the browser's complaints");
    process.stdout.write(`ok ${name} (${((Date.now() - began) / 1000).toFixed(1)} s)\n`);
    for (const context of browser.contexts()) await context.close();
  }
  failed = null;
} catch (error) {
  process.stdout.write(`FAILED ${failed}: ${error.stack}\n`);
  const page = browser.contexts().flatMap((context) => context.pages()).at(-1);
  if (page) {
    const picture = join(pictures, "console-failed.png");
    await page.screenshot({ path: picture }).then(() => process.stdout.write(`the page as it was: ${picture}\n`), () => {});
  }
}
await browser.close();
process.exit(failed ? 1 : 0);

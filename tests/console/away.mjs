// What the page says when the API, a part of it, or the token is away, and that it recovers.

/** What a browser says of a server that does not answer, is not ready yet, or refuses. */
const complains = /net::ERR_(CONNECTION_REFUSED|INCOMPLETE_CHUNKED_ENCODING|CONNECTION_RESET|EMPTY_RESPONSE)|status of (401|503)/;

const sale = (id) => ({ order_id: id, user_id: "eve", order_timestamp: new Date().toISOString(), items: [{ product_id: "bread", quantity: 2, price_per_unit: "2.55" }] });

export const awaySteps = [
  ["figures that are not of now are called stale, and since when", async ({ assert, open, state }) => {
    const page = await open();
    await page.route("**/status", async (route) => {
      const answer = await route.fetch();
      const status = { ...(await answer.json()), at: "2026-01-02T03:04:05Z" };
      status.parts.database = { ok: false, detail: "the database cannot be reached" };
      await route.fulfill({ response: answer, json: status });
    });
    await state(page, "stale");
    assert.equal(await page.textContent("#state-word"), "Stale since 03:04:05");
    assert.match(await page.textContent("#banner-text"), /the database cannot be reached/);
    assert.match(await page.textContent("#announce"), /^Stale since 03:04:05/);
    await page.unroute("**/status");
    await state(page, "live");
    assert.equal(await page.locator("#banner").isVisible(), false);
  }],

  ["the API's end is told, and what was missed is there after its return", async ({ assert, ask, contrasts, open, state, eventually }) => {
    const page = await open({ reducedMotion: "reduce" });
    await page.fill("#stock-q", "bread");
    const hand = page.locator("#stock-table tbody tr", { hasText: "Bread" }).locator("td.num").first();
    await eventually(async () => assert.equal(await hand.textContent(), "50"));
    // The stream has told where it is.
    await ask({ send: "online_orders", event: sale("away-1") });
    await eventually(async () => assert.equal(await hand.textContent(), "48"));
    await ask({ api: "kill" });
    await state(page, "down");
    assert.match(await page.textContent("#state-word"), /^Disconnected since \d\d:\d\d:\d\d$/);
    assert.match(await page.textContent("#banner-text"), /the API does not answer.*The figures are of \d\d:\d\d:\d\d/);
    assert.match(await page.textContent("#announce"), /^Disconnected since/);
    assert.match(await page.title(), /down/);
    assert.equal(await hand.textContent(), "48", "what was known stays");
    await contrasts(page, assert);
    await page.emulateMedia({ colorScheme: "dark" });
    await contrasts(page, assert);
    await ask({ send: "online_orders", event: sale("away-2") });
    const resumed = page.waitForRequest((request) => request.url().endsWith("/stock/stream") && Boolean(request.headers()["last-event-id"]));
    await ask({ api: "start" });
    await state(page, "live");
    await resumed;
    await eventually(async () => assert.equal(await hand.textContent(), "46"));
    await eventually(async () => assert.match(await page.textContent("#ticker"), /46.*48/s));
    assert.equal(await page.textContent("#announce"), "Connected again: live.");
  }, { complains }],

  ["a token is asked for, kept for the tab, and sent with the stream too", async ({ assert, ask, contrasts, open, state, eventually }) => {
    await ask({ api: "kill" });
    await ask({ api: "start", token: "s3cret" });
    const page = await open({ wait: "refused" });
    assert.match(await page.textContent("#banner-text"), /A token is needed/);
    await contrasts(page, assert);
    await page.click("#banner-token");
    await page.fill("#token", "wrong");
    await page.keyboard.press("Enter");
    await eventually(async () => assert.match(await page.textContent("#banner-text"), /The token is not accepted: the token is wrong/));
    await page.click("#token-open");
    await page.fill("#token", "s3cret");
    await page.keyboard.press("Enter");
    await state(page, "live");
    await ask({ send: "online_orders", event: sale("token-1") });
    await eventually(async () => assert.match(await page.textContent("#ticker"), /−2/));
    const kept = await page.evaluate(() => [sessionStorage.getItem("stocktide.token"), JSON.stringify(localStorage), document.cookie, location.href]);
    assert.equal(kept[0], "s3cret");
    assert.doesNotMatch(kept.slice(1).join(), /s3cret/);
    await page.reload();
    await state(page, "live");
    await page.click("#token-open");
    await page.click("#token-forget");
    await state(page, "refused");
  }, { complains }],
];

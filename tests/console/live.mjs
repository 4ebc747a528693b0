// What the page shows, and that changes come by themselves.

const HOSTILE = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>';

function order(id, product, quantity) {
  const items = [{ product_id: product, quantity, price_per_unit: "1.00" }];
  return { order_id: id, user_id: "dora <b>", order_timestamp: new Date().toISOString(), items, order_value: `${quantity}.00` };
}

const send = (ask, event) => ask({ send: "online_orders", event });
const row = (page, name) => page.locator("#stock-table tbody tr", { hasText: name }).first();
const hand = (page, name) => row(page, name).locator("td.num").first();

export const liveSteps = [
  ["the page loads under a strict policy", async ({ assert, base, open, eventually }) => {
    const answer = await fetch(base);
    const policy = answer.headers.get("content-security-policy");
    assert.match(policy, /default-src 'none'/);
    assert.match(policy, /script-src 'self';/);
    assert.doesNotMatch(policy, /unsafe|\*|http/);
    const page = await open();
    await page.locator("#stock-table tbody tr").nth(19).waitFor();
    assert.equal(await page.textContent("#stock-range"), "Rows 1–20");
    assert.equal(await page.locator("#rate-chart svg, #lag-chart svg, #fate-shares svg").count(), 3);
    assert.ok((await page.locator("#topics tbody tr").count()) >= 3);
    await eventually(async () => assert.match(await page.textContent("#count-all"), /^\d+$/));
    // A script that is no file of ours does not run.
    const isRun = await page.evaluate(() => {
      const script = document.createElement("script");
      script.textContent = "window.inline = 1";
      document.body.append(script);
      return "inline" in window;
    });
    assert.equal(isRun, false);
  }, { complains: /Content Security Policy/ }],

  ["a sale changes the table, the ticker and the open product by itself", async ({ assert, ask, open, eventually }) => {
    const page = await open();
    await page.fill("#stock-q", "appl");
    await eventually(async () => assert.equal(await page.locator("#stock-table tbody tr").count(), 1));
    assert.equal(await hand(page, "Apple").textContent(), "100");
    await send(ask, order("live-1", "apple", 3));
    await eventually(async () => assert.equal(await hand(page, "Apple").textContent(), "97"));
    assert.match(await row(page, "Apple").getAttribute("class"), /down/);
    assert.match(await row(page, "Apple").textContent(), /−3/);
    await eventually(async () => assert.match(await page.textContent("#ticker"), /Apple−3.*97/s));
    await page.getByRole("link", { name: "Apple" }).first().click();
    await eventually(async () => assert.equal(await page.locator("#movements tbody tr").count(), 1));
    assert.match(await page.getAttribute("#product-spark svg", "aria-label"), /from 100 to 97/);
    await send(ask, order("live-2", "apple", 93));
    await eventually(async () => assert.equal(await page.locator("#movements tbody tr").count(), 2));
    assert.match(await page.textContent("#product-places [aria-pressed=true]"), /online4low/);
    await page.keyboard.press("Escape");
    assert.equal(await page.locator("#product").isVisible(), false);
    assert.match(await row(page, "Apple").textContent(), /low/);
    // Online orders, and whose they are.
    await eventually(async () => assert.match(await page.textContent("#top-users tbody"), /dora <b>2?/));
  }],

  ["filters and pages", async ({ assert, open, eventually }) => {
    const page = await open();
    const rows = page.locator("#stock-table tbody tr");
    await page.click("#stock-next");
    await eventually(async () => assert.match(await page.textContent("#stock-range"), /^Rows 21–40/));
    await page.click("#stock-back");
    await eventually(async () => assert.match(await page.textContent("#stock-range"), /^Rows 1–20/));
    await page.getByRole("radio", { name: /^Low/ }).check();
    await eventually(async () => assert.deepEqual(await rows.locator(".badge").allTextContents(), ["low"]));
    await page.getByRole("radio", { name: /^All/ }).check();
    await page.fill("#stock-location", "shop");
    await eventually(async () => assert.match(await rows.first().textContent(), /shop/));
    assert.equal(new Set(await rows.locator("td:nth-child(2)").allTextContents()).size, 1);
    await page.fill("#stock-location", "");
    await page.fill("#stock-q", "' OR 1=1; <b>%");
    await page.getByText("Nothing matches these filters.").waitFor();
    assert.equal(await rows.count(), 0);
  }],

  ["a reject that holds HTML is shown as text, and bytes that are no text are escaped", async ({ assert, ask, open, eventually }) => {
    const page = await open();
    await send(ask, order("hostile-1", HOSTILE, 1));
    await ask({ send: "store_sales", hex: "ff007b41e280ae" });
    const entry = page.locator("#reject-list details", { hasText: "<img src=x" });
    await entry.locator("summary").click();
    assert.match(await entry.locator("pre").last().textContent(), /<img src=x onerror=\\"window.hacked=1\\"><script>/);
    const raw = page.locator("#reject-list details", { hasText: "malformed json" });
    await raw.locator("summary").click();
    assert.equal(await raw.locator("pre").last().textContent(), "\\xff\\x00{A\\xe2\\x80\\xae");
    await page.evaluate(async () => (await import("/console/rejects.js")).rejects.refresh());
    assert.ok(await entry.evaluate((element) => element.open), "what is open stays open");
    assert.match(await page.textContent("#reasons"), /unknown product/);
    assert.equal(await page.locator("#rejects img, #rejects script, #ticker img").count(), 0);
    assert.equal(await page.evaluate(() => "hacked" in window), false);
    await page.locator("#reasons button", { hasText: "malformed json" }).click();
    await eventually(async () => assert.equal(await page.locator("#reject-list details").count(), 1));
    await page.click("#rejects-all");
    await eventually(async () => assert.equal(await page.locator("#reject-list details").count(), 2));
  }],

  ["what was done with a reject, and by whom, is told where it stands", async ({ assert, ask, open, eventually }) => {
    const page = await open();
    const raw = page.locator("#reject-list details", { hasText: "malformed json" });
    await raw.locator("summary").click();
    assert.match(await raw.textContent(), /State\s*open/);
    await ask({ discard: "malformed_json", by: "ann", note: "noise <b>only</b>" });
    await page.evaluate(async () => (await import("/console/rejects.js")).rejects.refresh());
    await eventually(async () => assert.match(await raw.locator("summary").textContent(), /discarded/));
    await eventually(async () => assert.match(await raw.locator("dl").textContent(), /discarded .* by ann: noise <b>only<\/b>/));
    const other = page.locator("#reject-list details", { hasText: "<img src=x" });
    assert.doesNotMatch(await other.locator("summary").textContent(), /discarded/);
  }],

  ["payments are joined, wait for their order, and are told where they do not add up", async ({ assert, ask, open, eventually }) => {
    const page = await open();
    const figures = () => page.locator("#payments dd").allTextContents();
    await eventually(async () => assert.deepEqual(await figures(), ["0", "0", "0", "0"]));
    const pay = (id, of, amount) => ask({ send: "payments", event: { payment_id: id, order_id: of, payment_method: "card", card_last_four: "4242",
      payment_status: "captured", payment_datetime: new Date().toISOString(), amount } });
    await pay("pay-1", "live-1", "3.00");
    await pay("pay-2", "live-2", "3.00");
    await pay("pay-3", "not-yet", "1.00");
    await eventually(async () => assert.deepEqual(await figures(), ["2", "1", "1", "0"]));
    assert.match(await page.locator("#topics tbody tr", { hasText: "payments" }).textContent(), /^payments2001/);
    assert.equal(await page.locator("#fates div", { hasText: "Parked" }).locator("dd").textContent(), "1");
    await send(ask, { ...order("not-yet", "item-44", 1), order_value: "7.00" });
    await eventually(async () => assert.deepEqual(await figures(), ["3", "0", "1", "1"]));
  }],

  ["sales, jobs and the newest report are there", async ({ assert, open, eventually }) => {
    const page = await open();
    await eventually(async () => assert.match(await page.textContent("#totals"), /Online orders3.*Online revenue97\.00/));
    assert.equal(await page.locator("#months tbody tr").count(), 12);
    assert.match(await page.locator("#months tbody tr").first().textContent(), /397\.00$/);
    assert.equal(await page.locator("#top-users tbody img, #top-users tbody b").count(), 0);
    await eventually(async () => assert.match(await page.textContent("#runs tbody"), /daily report.*succeeded/));
    await eventually(async () => assert.match(await page.textContent("#report"), /revision 1/));
    assert.match(await page.textContent("#currency"), /GBP/);
  }],
];

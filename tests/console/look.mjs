// How the page is used and looks: by keyboard, on a phone, in both colours, without motion, and unseen.

const width = (page) => page.evaluate(() => document.documentElement.scrollWidth);

export const lookSteps = [
  ["everything can be reached by keyboard", async ({ assert, open, eventually }) => {
    const page = await open();
    await page.locator("#stock-table tbody tr").nth(19).waitFor();
    const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.textContent);
    await page.keyboard.press("Tab");
    assert.equal(await focused(), "Skip to the content");
    assert.ok((await page.locator(".skip").boundingBox()).y >= 0, "the skip link is seen");
    await page.keyboard.press("Enter");
    assert.equal(await focused(), "main");
    await page.keyboard.press("Tab");
    assert.equal(await focused(), "stock-q");
    assert.notEqual(await page.locator("#stock-q").evaluate((element) => getComputedStyle(element).outlineStyle), "none");
    await page.keyboard.type("item-0");
    await eventually(async () => assert.match(await page.locator("#stock-table tbody tr").first().textContent(), /Item 1/));
    for (const _ of ["location", "status"]) await page.keyboard.press("Tab");
    await page.keyboard.press("ArrowRight");
    assert.equal(await page.locator("#stock-status :checked").getAttribute("value"), "in_stock");
    await page.keyboard.press("Tab");
    await eventually(async () => assert.match(await focused(), /^Item 1$/));
    await page.keyboard.press("ArrowDown");
    assert.equal(await focused(), "Item 1", "the same product at the next location");
    await page.keyboard.press("ArrowDown");
    assert.equal(await focused(), "Item 2");
    await page.keyboard.press("Enter");
    await eventually(async () => assert.equal(await focused(), "product-name"));
    await page.keyboard.press("Tab");
    assert.equal(await focused(), "product-close");
    await page.keyboard.press("Escape");
    await eventually(async () => assert.equal(await focused(), "Item 2"));
    await eventually(async () => assert.equal(new URL(page.url()).hash, ""));
  }],

  ["nothing is wider than a phone of 360 pixels", async ({ assert, open, eventually }) => {
    const page = await open({ viewport: { width: 360, height: 740 } });
    await page.locator("#reject-list details").nth(1).waitFor();
    await page.locator("#report table").waitFor();
    assert.equal(await width(page), 360);
    for (const summary of await page.locator("#reject-list summary").all()) await summary.click();
    assert.equal(await width(page), 360);
    await page.getByRole("link", { name: "Item 1", exact: true }).first().click();
    await eventually(async () => assert.equal(await page.locator("#product-places button").count(), 2));
    const sheet = await page.locator("#product").evaluate((element) => [element.scrollWidth, element.clientWidth]);
    assert.ok(sheet[0] <= sheet[1] && sheet[1] <= 360, `the sheet is ${sheet}`);
    await page.click("#product-close");
    await page.click("#token-open");
    assert.equal(await width(page), 360);
  }],

  ["light and dark have the contrast that WCAG AA asks for", async ({ assert, contrasts, open, eventually }) => {
    const page = await open({ colorScheme: "light", reducedMotion: "reduce" });
    await page.locator("#reject-list details").nth(1).waitFor();
    await page.locator("#reject-list summary").first().click();
    const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const light = await ground();
    await contrasts(page, assert);
    await page.emulateMedia({ colorScheme: "dark" });
    assert.notEqual(await ground(), light);
    await contrasts(page, assert);
    // The button overrules the system: auto, light, dark.
    await page.click("#theme");
    assert.equal(await ground(), light);
    await page.reload();
    assert.equal(await ground(), light);
    await page.click("#theme");
    assert.equal(await page.textContent("#theme-name"), "Dark");
    assert.notEqual(await ground(), light);
    await page.getByRole("link", { name: "Apple" }).first().click();
    await eventually(async () => assert.equal(await page.locator("#movements tbody tr").count(), 2));
    await contrasts(page, assert);
    await page.emulateMedia({ colorScheme: "light" });
    await page.evaluate(() => (document.documentElement.dataset.theme = "light"));
    await contrasts(page, assert);
  }],

  ["who wants no motion gets none", async ({ assert, ask, open, eventually }) => {
    const page = await open({ reducedMotion: "reduce" });
    const items = [{ product_id: "apple", quantity: 1, price_per_unit: "1.00" }];
    await ask({ send: "store_sales", event: { sale_id: "still-1", store_id: "online", sold_at: new Date().toISOString(), items } });
    await eventually(async () => assert.match(await page.textContent("#ticker"), /−1/));
    assert.equal(await page.evaluate(() => document.getAnimations().length), 0);
  }],

  ["a tab that nobody sees asks for nothing", async ({ assert, open, state }) => {
    const page = await open();
    const hide = (isHidden) => page.evaluate((value) => {
      Object.defineProperty(document, "hidden", { configurable: true, get: () => value });
      document.dispatchEvent(new Event("visibilitychange"));
    }, isHidden);
    await hide(true);
    await state(page, "paused");
    const requests = [];
    page.on("request", (request) => requests.push(request.url()));
    // Longer than the pause between two looks.
    await page.waitForTimeout(2_500);
    assert.deepEqual(requests, []);
    await hide(false);
    await state(page, "live");
    assert.ok(requests.some((url) => url.endsWith("/stock/stream")) && requests.some((url) => url.endsWith("/status")), String(requests));
  }],
];

// The contrast of every text and every control's edge on a page, as WCAG 2.2 reckons it.

/** What has too little: text below 4.5 (large text 3), edges of controls and lines of charts below 3. Runs in the page. */
function tooWeak() {
  const channels = (colour) => {
    const parts = /^rgba?\(([^)]+)\)$/.exec(colour);
    if (!parts) throw new Error(`a colour that is not understood: ${colour}`);
    const [r, g, b, a = 1] = parts[1].split(/[ ,/]+/).map(Number);
    return { rgb: [r, g, b], a };
  };
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const over = (top, bottom) => top.rgb.map((value, i) => value * top.a + bottom[i] * (1 - top.a));
  const behind = (element) => {
    if (!element) return [255, 255, 255];
    const own = channels(getComputedStyle(element).backgroundColor);
    if (own.a === 1) return own.rgb;
    // The top layer stands on its backdrop, and no text stands on that.
    return own.a === 0 ? behind(element.parentElement) : over(own, behind(element.parentElement));
  };
  const ratio = (one, other) => {
    const [high, low] = [luminance(one), luminance(other)].sort((a, b) => b - a);
    return (high + 0.05) / (low + 0.05);
  };
  const isSeen = (element) => element.checkVisibility({ opacityProperty: true, visibilityProperty: true }) && element.closest(".sr, [inert]") === null;
  const found = [];
  let looked = 0;
  const weigh = (element, what, colour, ground, least) => {
    looked += 1;
    const reached = ratio(over(channels(colour), ground), ground);
    if (reached < least) found.push(`${what} of ${element.tagName.toLowerCase()}${element.id && `#${element.id}`}.${element.getAttribute("class") ?? ""} "${element.textContent.trim().slice(0, 30)}": ${reached.toFixed(2)} < ${least}`);
  };
  for (const element of document.body.querySelectorAll("*")) {
    if (!isSeen(element)) continue;
    const style = getComputedStyle(element);
    const hasText = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
    const isLarge = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && Number(style.fontWeight) >= 700);
    if (hasText) weigh(element, "text", style.color, behind(element), isLarge ? 3 : 4.5);
    if (element.matches("input:not([type=radio])")) weigh(element, "placeholder", getComputedStyle(element, "::placeholder").color, behind(element), 4.5);
    if (element.matches("input:not([type=radio]), button:enabled:not(.reasons button)")) weigh(element, "edge", style.borderTopColor, behind(element.parentElement), 3);
    if (element.matches("path.line, path.reorder")) weigh(element, "line", style.stroke, behind(element.closest("div, section, dialog")), 3);
  }
  return { looked, found };
}

/** Asserts that a page has enough of it everywhere. */
export async function contrasts(page, assert) {
  const { looked, found } = await page.evaluate(tooWeak);
  assert.ok(looked > 20, `only ${looked} contrasts were found`);
  assert.deepEqual(found, []);
}

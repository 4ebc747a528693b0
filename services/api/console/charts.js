// Small charts, drawn as SVG. Each says in words what it shows.

import { h, svg } from "./dom.js";
import { count, many, signed } from "./format.js";

const [WIDTH, HEIGHT] = [300, 64];

function path(points) {
  return points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
}

/** Values over time, gaps where they are null; `said` is the chart in words. Its height stands for `least` at least. */
export function area(values, slots, said, least) {
  const most = Math.max(least, ...values.filter((value) => value !== null));
  const x = (i) => WIDTH - ((values.length - 1 - i) * WIDTH) / Math.max(1, slots - 1);
  const y = (value) => HEIGHT - 2 - (value / most) * (HEIGHT - 6);
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": said });
  drawing.append(svg("path", { class: "base", d: `M0 ${HEIGHT - 1}H${WIDTH}` }));
  for (const run of runs(values)) {
    const points = run.map((i) => [x(i), y(values[i])]);
    const [first, last] = [points[0], points[points.length - 1]];
    drawing.append(svg("path", { class: "fill", d: `${path(points)}L${last[0].toFixed(1)} ${HEIGHT}L${first[0].toFixed(1)} ${HEIGHT}Z` }));
    drawing.append(svg("path", { class: "line", d: path(points) }));
  }
  return drawing;
}

/** Runs of places whose values are known. */
function runs(values) {
  const found = [];
  values.forEach((value, i) => {
    if (value === null) return;
    if (i === 0 || values[i - 1] === null) found.push([]);
    found[found.length - 1].push(i);
  });
  return found;
}

/** A bar of shares; each part has a class and a value. */
export function shares(parts, said) {
  const all = parts.reduce((sum, part) => sum + part.value, 0);
  const drawing = svg("svg", { viewBox: "0 0 1000 10", preserveAspectRatio: "none", role: "img", "aria-label": said });
  drawing.append(svg("rect", { class: "base", width: 1000, height: 10 }));
  let x = 0;
  for (const { name, value } of parts.filter((part) => part.value > 0)) {
    // What there is at all must be seen.
    const width = Math.max(4, (value / all) * 1000);
    drawing.append(svg("rect", { class: name, x: x.toFixed(1), width: width.toFixed(1), height: 10 }));
    x += width;
  }
  return drawing;
}

/** A bar of a length between 0 and 1. */
export function bar(share) {
  return svg("svg", { class: "bar", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: "fill", width: Math.max(0, Math.min(1, share)) * 100, height: 8 }));
}

/** A stock row's history as steps: `points` are quantities in the order of their versions; `reorder` may be null. */
export function history(points, reorder) {
  const [width, height, pad] = [640, 150, 8];
  const known = reorder === null ? [...points, 0] : [...points, 0, reorder];
  const [least, most] = [Math.min(...known), Math.max(...known)];
  const y = (value) => height - pad - ((value - least) / Math.max(1, most - least)) * (height - 2 * pad);
  const x = (i) => (i * width) / points.length;
  const steps = points.map((value, i) => (i ? `H${x(i).toFixed(1)}V${y(value).toFixed(1)}` : `M0 ${y(value).toFixed(1)}`));
  const line = `${steps.join("")}H${width}`;
  const last = points[points.length - 1];
  const said = `Units on hand over ${count(points.length)} changes: from ${count(points[0])} to ${count(last)}, lowest ${count(Math.min(...points))}, highest ${count(Math.max(...points))}`;
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": said });
  drawing.append(svg("path", { class: "base", d: `M0 ${y(0).toFixed(1)}H${width}` }));
  drawing.append(svg("path", { class: "fill", d: `${line}V${y(0).toFixed(1)}H0Z` }));
  if (reorder !== null) drawing.append(svg("path", { class: "reorder", d: `M0 ${y(reorder).toFixed(1)}H${width}` }));
  drawing.append(svg("path", { class: "line", d: line }));
  const legend = h("p", { class: "axis" },
    h("span", { text: `${many(points.length - 1, "change")} back` }),
    h("span", { text: `lowest ${count(Math.min(...points))}, highest ${count(Math.max(...points))}, in all ${signed(last - points[0])}` }),
    reorder === null ? null : h("span", { class: "reorder-key", text: `reorder at ${count(reorder)}` }));
  return [drawing, legend];
}

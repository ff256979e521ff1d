// One image as one to six detectors saw it: panes that zoom in step, with layers, classes and confidence as controls.
// All of these are applied here, without asking Python: a box's outcome does not depend on boxes of lower confidence.
// What is exported beside the component is free of the page, so that it can be tested without one.

/** @typedef {{x: number, y: number, w: number, h: number}} Rect in pixels of the image */
/** @typedef {[number, number, number, number]} View the part of the image that is shown: x, y, width, height */
/**
 * @typedef {Rect & {kind: string, label: string, score?: number | null, object?: number, partner?: number,
 *   flip?: boolean}} Box `object`: index in `truth`; `partner`: score of the other model's box for the same object
 */
/** @typedef {{title: string, boxes: Box[], image?: string}} Pane */
/** @typedef {{severity: number, image: string, panes: Box[][]}} Level a stored severity: a preview, and each pane's boxes */
/**
 * @typedef {{id: string, name: string, image: string, width: number, height: number, panes: Pane[], truth: Box[],
 *   kinds: string[], colors: Record<string, string>, place: number, of: number, severity: number | null,
 *   severities: number[], levels: Level[] | null, condition: string, state: State}} Data what Python sends
 */
/**
 * @typedef {{confidence: number, truth: boolean, labels: boolean, hidden: string[], classes: string[],
 *   view: View | null}} State what the address says; `hidden` and `classes` are the layers and classes not shown
 */
/**
 * @typedef {{data: Data, parentElement: HTMLElement & {viewer?: Viewer},
 *   setTriggerValue: (name: string, value: unknown) => void,
 *   setStateValue: (name: string, value: unknown) => void}} Component what Streamlit passes
 */
/** @typedef {{box: Box, group: SVGGElement, visible: boolean}} Item a box as it is drawn */
/**
 * @typedef {{root: HTMLElement, title: string, counts: HTMLElement, svg: SVGSVGElement, image: SVGImageElement,
 *   dot: SVGCircleElement, labels: SVGGElement, items: Item[]}} Figure a pane as it is drawn
 */
/** @typedef {[number, number]} Point in pixels of the image */
/** @typedef {{box: Box, w: number, h: number}} Label of a box, with its size in pixels of the image */
/** @typedef {Record<string, string | number | boolean>} Attributes */

const SVG = "http://www.w3.org/2000/svg";
/** @type {Record<string, number>} */
const RANK = { truth: -1, false: 0, missed: 1, matched: 2 }; // drawn in this order: what was found lies on top
/** @type {Record<string, string>} */
const WORDS = { matched: "matched", missed: "missed", false: "false", both: "found by both", only: "only here", truth: "truth" };
/** @type {Record<string, number[]>} */
const DASHES = { missed: [8, 5], false: [2, 3.5], only: [2, 3.5] };
/** @type {Record<string, string>} */
const LAYER_KEYS = { truth: "G", matched: "M", missed: "N", false: "F", both: "M", only: "F" };
const LABEL = { size: 12, high: 17, pad: 5 }; // px of the screen
const GAP = 12, CAPTION = 30, SMALLEST = 260; // px
const STRIP_DELAY = 250; // ms; who steps quickly through images needs no strip of each

/** @param {Component} component */
export default function (component) {
  const { parentElement } = component;
  const viewer = parentElement.viewer ?? (parentElement.viewer = new Viewer(component));
  viewer.update(component);
  return () => {};
}

/**
 * How panes of one shape fill an area best.
 * @param {number} count @param {number} width px @param {number} height px @param {number} aspect width / height
 * @returns {{columns: number, width: number, height: number}} of each picture, px
 */
export function fitPanes(count, width, height, aspect) {
  let best = { columns: 1, width: 0, height: 0 };
  for (let columns = 1; columns <= count; columns++) {
    const rows = Math.ceil(count / columns);
    const wide = (width - GAP * (columns - 1)) / columns, high = (height - GAP * (rows - 1)) / rows - CAPTION;
    const w = Math.max(1, Math.min(wide, high * aspect));
    if (w > best.width) best = { columns, width: w, height: w / aspect };
  }
  return best;
}

/**
 * Whether a confidence shows a box: a detection from its score up, a missed object where its detection scores less.
 * @param {Box} box @param {number} confidence
 */
export function isShown(box, confidence) {
  if (box.kind === "truth") return true;
  const reaches = box.score != null && box.score >= confidence;
  return box.kind === "missed" ? !reaches : reaches;
}

/** Overlap of two boxes, 0 to 1. @param {Rect} a @param {Rect} b */
export function iou(a, b) {
  const w = Math.min(a.x + a.w, b.x + b.w) - Math.max(a.x, b.x), h = Math.min(a.y + a.h, b.y + b.h) - Math.max(a.y, b.y);
  return w <= 0 || h <= 0 ? 0 : (w * h) / (a.w * a.h + b.w * b.h - w * h);
}

/**
 * The objects on which panes differ at a confidence: missed in one, found in another. A pane without boxes says nothing.
 * @param {Box[][]} panes @param {number} confidence @returns {Set<number>}
 */
export function differing(panes, confidence) {
  const boxes = panes.flat().filter((box) => isShown(box, confidence));
  /** @param {string} kind */
  const objects = (kind) => new Set(boxes.filter((box) => box.kind === kind).flatMap((box) => box.object ?? []));
  const matched = objects("matched");
  return new Set([...objects("missed")].filter((object) => matched.has(object)));
}

/**
 * Where labels go so that none lies over another; null where there is no room.
 * @param {{box: Rect, w: number, h: number}[]} labels most important first; sizes in pixels of the image
 * @param {View} view @returns {({x: number, y: number} | null)[]}
 */
export function placeLabels(labels, view) {
  const [left, top, width, height] = view;
  /** @type {Rect[]} */
  const taken = [];
  return labels.map(({ box, w, h }) => {
    if (box.x > left + width || box.y > top + height || box.x + box.w < left || box.y + box.h < top) return null;
    const begin = box.x, end = box.x + box.w - w, over = box.y - h, under = box.y + box.h;
    const places = [[begin, over], [begin, box.y], [end, over], [begin, under], [end, box.y], [begin, under - h], [end, under], [end, under - h]];
    for (const [x, y] of places) {
      const at = { x: clamp(x, left, left + width - w), y, w, h };
      if (at.y < top || at.y + h > top + height) continue;
      if (taken.some((other) => at.x < other.x + other.w && other.x < at.x + w && at.y < other.y + other.h && other.y < at.y + h)) continue;
      taken.push(at);
      return { x: at.x, y: at.y };
    }
    return null;
  });
}

/**
 * The smallest box around a point.
 * @param {Box[]} boxes @param {Point} point @param {number} slack px @returns {Box | null}
 */
export function boxAt(boxes, [x, y], slack) {
  const around = boxes.filter((b) => x >= b.x - slack && y >= b.y - slack && x <= b.x + b.w + slack && y <= b.y + b.h + slack);
  return around.sort((a, b) => a.w * a.h - b.w * b.h)[0] ?? null;
}

/**
 * What a box is, in lines.
 * @param {Box} box @param {Box[]} truth @returns {string[]}
 */
export function describe(box, truth) {
  const lines = [`${box.label} · ${box.kind === "truth" ? "ground truth" : WORDS[box.kind]}`];
  if (box.kind === "missed") lines.push(box.score == null ? "no box of this class matches it" : `its box scores ${box.score.toFixed(2)} only`);
  else if (box.score != null) lines.push(`score ${box.score.toFixed(2)}`);
  if (box.partner !== undefined) lines.push(box.partner ? `the other model's box scores ${box.partner.toFixed(2)}` : "the other model has no such box");
  const object = box.object === undefined ? undefined : truth[box.object];
  if (box.kind === "matched" && object) lines.push(`IoU ${iou(box, object).toFixed(2)} with its object`);
  if (box.kind === "false") {
    const best = Math.max(0, ...truth.filter((t) => t.label === box.label).map((t) => iou(box, t)));
    lines.push(best ? `IoU ${best.toFixed(2)} with the nearest ${box.label}` : `overlaps no ${box.label}`);
  }
  if (box.kind === "missed" || box.kind === "truth") lines.push(`${Math.round(box.w)} × ${Math.round(box.h)} px`);
  if (box.flip) lines.push("the models differ here");
  return lines;
}

/** A part of an image kept within it. @param {View} view @param {number} width @param {number} height @returns {View} */
export function clampView(view, width, height) {
  const w = Math.min(width, Math.max(view[2], width / 40)), h = (w * height) / width;
  return [clamp(view[0], 0, width - w), clamp(view[1], 0, height - h), w, h];
}

/** A number on a circle, or null. @param {number | null | undefined} number @param {number} of */
export const circle = (number, of) => (number == null ? null : ((number % of) + of) % of);
/** @param {number} value @param {number} low @param {number} high */
const clamp = (value, low, high) => Math.min(Math.max(value, low), Math.max(high, low));

class Viewer {
  /** @param {Component} component */
  constructor(component) {
    const { data } = component, { state } = data;
    this.component = component;
    this.data = data;
    this.confidence = state.confidence;
    this.labels = state.labels;
    this.hidden = new Set(state.truth ? state.hidden : [...state.hidden, "truth"]);
    this.off = new Set(state.classes);
    /** @type {View} */
    this.view = isView(state.view, data) ? state.view : [0, 0, data.width, data.height];
    /** @type {number | null} the index of a previewed severity; null for the image itself */
    this.level = null;
    /** @type {number | null} the place of the image that was asked for last */
    this.wanted = null;
    /** @type {Figure[]} */
    this.figures = [];
    /** @type {number | undefined} timers: of what waits for more steps, of what is told, of a severity to be chosen */
    this.later = undefined;
    /** @type {number | undefined} */
    this.timer = undefined;
    /** @type {number | undefined} */
    this.sweeping = undefined;
    this.root = document.createElement("div");
    this.root.className = "viewer";
    this.root.innerHTML = `<div class="note" role="status"><span></span> <button>Show all boxes</button></div><div class="panes"></div>
      <div class="bar" role="toolbar" aria-label="Viewer">
        <span class="group steps"><button class="previous" title="Previous image (←)" aria-label="Previous image">←</button
        ><button class="next" title="Next image (→)" aria-label="Next image">→</button></span>
        <span class="group layers" role="group" aria-label="Layers"></span>
        <button class="tags" title="Labels (L)">Labels</button>
        <details class="classes"><summary>Classes</summary><div class="sheet"></div></details>
        <label><span class="word">Confidence</span> <input class="confidence" aria-label="Confidence" type="range" min="0.05" max="0.95" step="0.01"><output></output></label>
        <span class="spacer"></span>
        <span class="group"><button class="out" title="Zoom out (−)" aria-label="Zoom out">−</button
        ><button class="whole" title="Whole image (0)" aria-label="Whole image">⤢</button
        ><button class="in" title="Zoom in (+)" aria-label="Zoom in">+</button></span>
        <details class="save"><summary>Save</summary><div class="sheet"><button class="png">PNG</button><button class="svg">SVG</button></div></details>
      </div>
      <div class="strip"><label>Severity <input class="sweep" type="range" min="0" step="1"><output></output></label><div class="levels"></div></div>
      <div class="keys"></div>`;
    component.parentElement.appendChild(this.root);
    this.panes = this.find(".panes");
    this.tip = element("div", { class: "tip", role: "tooltip" });
    this.root.append(this.tip);
    this.wire();
    new ResizeObserver(() => this.fit()).observe(this.root);
    addEventListener("resize", () => this.root.isConnected && this.fit());
  }

  /** @param {string} name a selector */
  find(name) { return find(this.root, name, HTMLElement); }

  /** @param {string} name a selector */
  input(name) { return find(this.root, name, HTMLInputElement); }

  /** @param {Component} component */
  update(component) {
    const { data } = component, before = this.data, other = before.id !== data.id;
    this.component = component;
    if (before.of !== data.of || circle(this.wanted, data.of) === data.place) this.wanted = null;
    this.data = data;
    if (other) this.view = [0, 0, data.width, data.height];
    if (other || !data.levels || before.severity !== data.severity) this.level = null; // of the preview; else it goes on
    for (const [kind, color] of Object.entries(data.colors)) this.root.style.setProperty(`--${kind}`, color);
    this.find(".steps").style.display = data.of > 1 ? "" : "none";
    this.drawLayers();
    this.drawClasses();
    this.drawStrip();
    this.drawKeys();
    this.draw();
  }

  wire() {
    /** @param {string} name @param {string} event @param {() => void} act */
    const on = (name, event, act) => this.find(name).addEventListener(event, act);
    on(".confidence", "input", () => { this.confidence = +this.input(".confidence").value; this.apply(); });
    on(".confidence", "change", () => this.tell());
    on(".tags", "click", () => { this.labels = !this.labels; this.apply(); this.tell(); });
    on(".previous", "click", () => this.step(-1));
    on(".next", "click", () => this.step(1));
    on(".in", "click", () => this.zoom(0.6));
    on(".out", "click", () => this.zoom(1 / 0.6));
    on(".whole", "click", () => this.show([0, 0, this.data.width, this.data.height]));
    on(".note button", "click", () => {
      this.off.clear();
      for (const kind of this.data.kinds) this.hidden.delete(kind);
      this.apply();
      this.tell();
    });
    on(".png", "click", () => this.save("png"));
    on(".svg", "click", () => this.save("svg"));
    on(".sweep", "input", () => this.preview(+this.input(".sweep").value));
    on(".sweep", "change", () => this.choose(+this.input(".sweep").value));
    /** @type {Record<string, () => void>} */
    const keys = { ArrowLeft: () => this.step(-1), ArrowRight: () => this.step(1), "+": () => this.zoom(0.6),
      "=": () => this.zoom(0.6), "-": () => this.zoom(1 / 0.6), 0: () => this.find(".whole").click(),
      ",": () => this.sweep(-1), ".": () => this.sweep(1), l: () => this.find(".tags").click(),
      Escape: () => this.closeSheets() };
    for (const key of Object.values(LAYER_KEYS)) (keys[key.toLowerCase()] ??= () => this.toggleLayer(key));
    document.addEventListener("keydown", (event) => {
      if (!this.root.isConnected || event.ctrlKey || event.metaKey || event.altKey) return;
      const from = event.composedPath()[0];
      /** @param {string} names */
      const inside = (names) => from instanceof Element && from.closest(names);
      if (inside("textarea, select, [role=combobox], [contenteditable], input:not([type=range], [type=checkbox])")) return;
      if (event.key.startsWith("Arrow") && inside("[type=range], [role=slider], [role=radio], [role=tab]")) return;
      const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
      if (act) { if (event.key !== "Escape") event.preventDefault(); act(); }
    });
    document.addEventListener("pointerdown", (event) => { // a sheet closes when something else is touched
      this.closeSheets(event.composedPath());
    });
  }

  /** @param {EventTarget[]} [but] those that stay open */
  closeSheets(but = []) {
    for (const sheet of this.root.querySelectorAll("details")) if (!but.includes(sheet)) sheet.open = false;
  }

  layers() { return this.data.truth.length ? [...this.data.kinds, "truth"] : this.data.kinds; }

  /** @param {string} key */
  toggleLayer(key) {
    const kind = this.layers().find((one) => LAYER_KEYS[one] === key);
    if (kind) this.find(`.layers [data-kind=${kind}]`).click();
  }

  // Where to, not how far: what is pressed before the last image came is not lost.
  /** @param {number} by */
  step(by) {
    if (this.data.of < 2) return;
    clearTimeout(this.later);
    this.wanted = (this.wanted ?? this.data.place) + by;
    this.component.setTriggerValue("step", this.wanted);
  }

  tell() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.component.setStateValue("view", {
      confidence: this.confidence, truth: !this.hidden.has("truth"), labels: this.labels,
      hidden: [...this.hidden].filter((kind) => kind !== "truth"), classes: [...this.off],
      view: this.whole() ? null : this.view.map((n) => Math.round(n * 10) / 10),
    }), 250);
  }

  whole() { return this.view[2] >= this.data.width * 0.999; }

  // Each pane's boxes and image: at the previewed severity while that moves.
  current() {
    const level = this.level == null ? null : this.data.levels?.[this.level];
    return this.data.panes.map((pane, p) => ({
      title: pane.title, boxes: level ? level.panes[p] : pane.boxes, image: level?.image ?? pane.image ?? this.data.image,
    }));
  }

  drawLayers() {
    this.find(".layers").replaceChildren(...this.layers().map((kind) => {
      const button = element("button", { class: "layer", "data-kind": kind, "aria-label": WORDS[kind], title: `${WORDS[kind]} (${LAYER_KEYS[kind]})` });
      const word = element("span", { class: "word" });
      word.textContent = WORDS[kind];
      button.append(swatch(kind), word);
      button.addEventListener("click", () => {
        if (!this.hidden.delete(kind)) this.hidden.add(kind);
        this.apply();
        this.tell();
      });
      return button;
    }));
  }

  drawClasses() {
    /** @type {Map<string, number>} */
    const counts = new Map();
    for (const boxes of [this.data.truth, ...this.data.panes.map((pane) => pane.boxes)]) {
      for (const { label } of boxes) counts.set(label, (counts.get(label) ?? 0) + (boxes === this.data.truth ? 1 : 0));
    }
    const names = [...counts].sort(([a, n], [b, m]) => m - n || a.localeCompare(b)).map(([name]) => name);
    this.find(".classes").style.display = names.length > 1 ? "" : "none";
    const every = element("button", {}), none = element("button", {});
    every.textContent = "All"; none.textContent = "None";
    /** @param {string[]} off */
    const choose = (off) => { this.off = new Set(off); this.apply(); this.tell(); };
    every.addEventListener("click", () => choose([]));
    none.addEventListener("click", () => choose(names));
    const both = element("div", { class: "group" });
    both.append(every, none);
    this.find(".classes .sheet").replaceChildren(both, ...names.map((name) => {
      const label = element("label", {}), box = element("input", { type: "checkbox" });
      box.name = name;
      box.addEventListener("change", () => { if (!this.off.delete(name)) this.off.add(name); this.apply(); this.tell(); });
      label.append(box, counts.get(name) ? `${name} (${counts.get(name)})` : name);
      return label;
    }));
  }

  drawStrip() {
    const { data } = this, strip = this.find(".strip"), has = data.severities.length > 1;
    strip.style.display = has ? "" : "none";
    clearTimeout(this.later);
    if (!has) return;
    // Of what is triggered while the server works, only the last arrives: a step under way goes first.
    if (!data.levels && this.wanted == null) this.later = setTimeout(() => this.component.setTriggerValue("strip", data.id), STRIP_DELAY);
    this.find(".strip label").style.display = data.severity == null ? "none" : "";
    this.input(".sweep").max = `${data.severities.length - 1}`;
    this.find(".levels").replaceChildren(...data.severities.map((severity, index) => {
      const button = element("button", { class: "thumb", "aria-label": `Severity ${severity}` });
      const level = data.levels?.[index];
      if (level) {
        const image = element("img", { src: level.image, alt: "" });
        image.style.aspectRatio = `${data.width} / ${data.height}`;
        button.append(image);
      } else {
        const empty = element("span", { class: "empty" });
        empty.style.aspectRatio = `${data.width} / ${data.height}`;
        button.append(empty);
      }
      const text = element("span", { class: "level" });
      button.append(text);
      button.addEventListener("click", () => { this.preview(index); this.choose(index); });
      return button;
    }));
    this.markLevel();
  }

  markLevel() {
    const { data } = this, index = this.place(), shown = `${data.severities[index] ?? data.severity}`;
    this.input(".sweep").value = `${index}`;
    this.find(".strip output").textContent = shown;
    this.find(".sweep").setAttribute("aria-valuetext", shown);
    [...this.root.querySelectorAll("button.thumb")].forEach((button, i) => {
      set(button, { "aria-current": i === index });
      const level = data.levels?.[i];
      const found = level?.panes.map((boxes) => boxes.filter((b) => b.kind === "matched" && isShown(b, this.confidence) && !this.off.has(b.label)).length);
      find(button, ".level", HTMLElement).textContent = found ? `${data.severities[i]}: ${found.join(" · ")}` : `${data.severities[i]}`;
      const words = found && `Severity ${data.severities[i]}; matched: ${data.panes.map((p, n) => `${p.title} ${found[n]}`).join(", ")}`;
      set(button, { title: words ?? "" });
    });
  }

  // The index of the severity that is shown.
  place() { return this.level ?? (this.data.severity == null ? -1 : this.data.severities.indexOf(this.data.severity)); }

  /** @param {number} index */
  preview(index) {
    if (!this.data.levels) return;
    this.level = index;
    this.draw();
    this.markLevel();
  }

  /** @param {number} index */
  choose(index) {
    clearTimeout(this.later);
    if (this.data.severities[index] !== this.data.severity) this.component.setTriggerValue("severity", this.data.severities[index]);
    else if (this.level != null) { this.level = null; this.draw(); this.markLevel(); }
  }

  /** @param {number} by */
  sweep(by) {
    const index = this.place() + by;
    if (!(index in this.data.severities)) return;
    this.preview(index);
    clearTimeout(this.sweeping);
    this.sweeping = setTimeout(() => this.choose(index), 300);
  }

  drawKeys() {
    const { data } = this;
    /** @type {[string, string, boolean][]} */
    const list = [["← →", "image", data.of > 1], [", .", "severity", data.severities.length > 1],
      ...this.layers().map((kind) => /** @type {[string, string, boolean]} */ ([LAYER_KEYS[kind], WORDS[kind], true])), ["L", "labels", true],
      ["+ − 0", "zoom; or double-click, drag, pinch, Ctrl + wheel", true]];
    this.find(".keys").replaceChildren(...list.filter(([, , has]) => has).map(([key, words]) => {
      const span = element("span", {}), kbd = element("kbd", {});
      kbd.textContent = key;
      span.append(kbd, ` ${words}`);
      return span;
    }));
  }

  draw() {
    this.figures = this.current().map((pane) => this.pane(pane));
    this.panes.replaceChildren(...this.figures.map((figure) => figure.root));
    this.hideTip();
    this.fit();
    this.apply();
  }

  // The pictures fill what the window leaves, so that they and the controls are seen at once.
  fit() {
    if (!this.root.isConnected) return;
    const { data } = this, width = this.root.clientWidth, home = this.root.getRootNode();
    if (!width) return;
    const main = home instanceof ShadowRoot ? home.host.closest("[data-testid=stMain]") : null;
    const scroller = main ?? document.scrollingElement ?? document.body;
    const top = this.panes.getBoundingClientRect().top - scroller.getBoundingClientRect().top + scroller.scrollTop;
    const below = this.find(".bar").offsetHeight + this.find(".strip").offsetHeight + this.find(".keys").offsetHeight + 4 * GAP;
    const narrow = width < 560, count = data.panes.length, aspect = data.width / data.height;
    const room = Math.max(SMALLEST, scroller.clientHeight - top - below);
    const best = narrow
      ? fitPanes(1, width, Math.max(SMALLEST, 0.5 * innerHeight), aspect)
      : fitPanes(count, width, Math.max(room, count > 3 ? 0.6 * innerHeight : 0), aspect);
    this.panes.style.gridTemplateColumns = `repeat(${best.columns}, minmax(0, ${Math.floor(best.width)}px))`;
    for (const { svg } of this.figures) svg.style.maxHeight = `${Math.floor(best.height)}px`;
    this.show(this.view, true);
  }

  /** @param {Pane} pane @returns {Figure} */
  pane(pane) {
    const { width, height, truth } = this.data;
    const root = element("figure", { class: "pane" });
    const caption = element("figcaption", {}), name = element("span", { class: "name" });
    const counts = element("span", { class: "counts", "aria-live": "polite" });
    name.textContent = pane.title;
    caption.append(name, counts);
    const stage = element("div", { class: "stage" });
    const svg = node("svg", { class: "picture", role: "img", "aria-label": `${pane.title}: the image with its boxes`, preserveAspectRatio: "xMidYMid meet" });
    svg.style.aspectRatio = `${width} / ${height}`;
    const image = node("image", { href: pane.image ?? this.data.image, x: 0, y: 0, width, height });
    const boxes = [...truth.map((box) => ({ ...box, kind: "truth" })), ...pane.boxes];
    const items = boxes.map((box) => ({ box, group: drawn(box), visible: true }));
    items.sort((a, b) => (RANK[a.box.kind] ?? 1) - (RANK[b.box.kind] ?? 1));
    const labels = node("g", { class: "texts" }), dot = node("circle", { class: "dot", r: 1 });
    svg.append(image, ...items.map((item) => item.group), labels, dot);
    stage.append(svg);
    root.append(caption, stage);
    const figure = { root, title: pane.title, counts, svg, image, dot, labels, items };
    this.follow(figure);
    return figure;
  }

  apply() {
    const { data } = this;
    this.input(".confidence").value = `${this.confidence}`;
    this.find(".bar output").textContent = this.confidence.toFixed(2);
    set(this.find(".tags"), { "aria-pressed": this.labels });
    for (const kind of this.layers()) set(this.find(`.layers [data-kind=${kind}]`), { "aria-pressed": !this.hidden.has(kind) });
    const boxes = [...this.find(".classes").querySelectorAll("input")];
    for (const box of boxes) box.checked = !this.off.has(box.name);
    const off = boxes.filter((box) => !box.checked).length;
    this.find(".classes summary").textContent = off ? `Classes: ${boxes.length - off} of ${boxes.length}` : "Classes";
    const flips = data.truth.length ? differing(this.figures.map(detections), this.confidence) : new Set();
    for (const figure of this.figures) {
      /** @type {Record<string, number>} */
      const counts = {};
      for (const item of figure.items) {
        const { box, group } = item;
        if (box.partner !== undefined) box.kind = box.partner >= this.confidence ? "both" : "only";
        box.flip = box.kind !== "truth" && box.object !== undefined && flips.has(box.object);
        const counted = isShown(box, this.confidence) && !this.off.has(box.label);
        item.visible = counted && !this.hidden.has(box.kind);
        group.setAttribute("class", `box ${box.kind}${box.flip ? " flip" : ""}`);
        group.style.display = item.visible ? "" : "none";
        if (counted) counts[box.kind] = (counts[box.kind] ?? 0) + 1;
      }
      figure.counts.replaceChildren(...data.kinds.map((kind) => {
        const span = element("span", {}), number = element("b", {});
        number.textContent = `${counts[kind] ?? 0}`;
        span.append(number, ` ${WORDS[kind]}`);
        return span;
      }));
    }
    const items = this.figures.flatMap((figure) => figure.items).filter((item) => item.box.kind !== "truth");
    const excluded = items.filter((item) => !item.visible && isShown(item.box, this.confidence)).length;
    this.find(".note").style.display = excluded && !items.some((item) => item.visible) ? "" : "none";
    this.find(".note span").textContent = `Layers and classes hide all ${excluded} boxes.`;
    if (data.severities.length > 1) this.markLevel();
    this.show(this.view, true);
  }

  // Panes share `view`; labels keep their size on the screen.
  /** @param {View} view @param {boolean} [quiet] whether the address stays */
  show(view, quiet) {
    this.view = clampView(view, this.data.width, this.data.height);
    this.root.classList.toggle("zoomed", !this.whole());
    for (const figure of this.figures) {
      const unit = this.unit(figure.svg);
      set(figure.svg, { viewBox: this.view.join(" ") });
      figure.image.classList.toggle("near", unit < 0.6);
      set(figure.dot, { r: 9 * unit });
      figure.labels.replaceChildren(...(this.labels ? this.tagsOf(figure, unit) : []));
    }
    if (!quiet) this.tell();
  }

  /** @param {SVGSVGElement} svg @returns {number} pixels of the image to one of the screen */
  unit(svg) { return this.view[2] / (svg.clientWidth || 600); }

  /** @param {Figure} figure @param {number} unit */
  tagsOf(figure, unit) {
    const named = figure.items.filter((item) => item.visible && item.box.kind !== "truth");
    /** @param {Item} item */
    const weight = ({ box }) => (box.flip ? 2 : 0) + (box.score ?? 0.5);
    named.sort((a, b) => weight(b) - weight(a));
    const sized = named.map(({ box }) => ({ box, w: (textWidth(caption(box)) + 2 * LABEL.pad) * unit, h: LABEL.high * unit }));
    return placeLabels(sized, this.view).flatMap((at, i) => (at ? [tag(sized[i], at, unit)] : []));
  }

  /** @param {number} by @param {Point} [at] what stays in place; the middle without it */
  zoom(by, at) {
    const [x, y, w, h] = this.view;
    this.show(scaled(this.view, by, at ?? [x + w / 2, y + h / 2]));
  }

  /** @param {Figure} figure */
  follow(figure) {
    const { svg } = figure;
    /** @type {Map<number, PointerEvent>} */
    const held = new Map();
    /** @type {{view: View, x: number, y: number, spread: number, at: Point} | null} */
    let from = null;
    /** @param {MouseEvent} event @returns {Point} */
    const at = (event) => {
      const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM()?.inverse());
      return [point.x, point.y];
    };
    const spread = () => { const [a, b] = [...held.values()]; return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY); };
    svg.addEventListener("pointerdown", (event) => {
      held.set(event.pointerId, event);
      if (!this.whole() || held.size === 2) svg.setPointerCapture(event.pointerId);
      from = { view: [...this.view], x: event.clientX, y: event.clientY, spread: held.size === 2 ? spread() : 0, at: at(event) };
      if (!this.whole()) svg.classList.add("held");
      this.showTip(figure, at(event), event);
    });
    svg.addEventListener("pointermove", (event) => {
      this.point(svg, at(event));
      this.showTip(figure, at(event), event);
      if (!held.has(event.pointerId) || !from) return;
      held.set(event.pointerId, event);
      const unit = from.view[2] / svg.clientWidth;
      if (held.size === 2 && from.spread) {
        this.show(scaled(from.view, from.spread / spread(), from.at));
      } else if (!this.whole()) {
        this.show([from.view[0] - (event.clientX - from.x) * unit, from.view[1] - (event.clientY - from.y) * unit, from.view[2], from.view[3]]);
      }
    });
    for (const end of /** @type {const} */ (["pointerup", "pointercancel"])) svg.addEventListener(end, (event) => { held.delete(event.pointerId); from = null; svg.classList.remove("held"); });
    svg.addEventListener("pointerleave", () => { this.point(svg, null); this.hideTip(); });
    svg.addEventListener("dblclick", (event) => this.zoom(0.5, at(event)));
    svg.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      this.zoom(Math.exp(event.deltaY * 0.004), at(event));
    }, { passive: false });
  }

  // The same place in the other panes.
  /** @param {SVGSVGElement} from @param {Point | null} at */
  point(from, at) {
    for (const { svg, dot } of this.figures) {
      dot.style.display = at && svg !== from ? "inline" : "none";
      if (at) set(dot, { cx: at[0], cy: at[1] });
    }
  }

  // What lies under the pointer, in words; its object stands out in every pane.
  /** @param {Figure} figure @param {Point} point @param {MouseEvent} event */
  showTip(figure, point, event) {
    const visible = figure.items.filter((item) => item.visible).map((item) => item.box);
    const box = boxAt(visible.filter((one) => one.kind !== "truth"), point, 3 * this.unit(figure.svg))
      ?? boxAt(visible, point, 0);
    for (const item of this.figures.flatMap((other) => other.items)) {
      item.group.classList.toggle("lit", box !== null && (item.box === box || (box.object !== undefined && item.box.object === box.object)));
    }
    if (!box) { this.tip.style.display = "none"; return; }
    const lines = describe(box, this.data.truth).map((line, i) => { const div = element(i ? "div" : "b", {}); div.textContent = line; return div; });
    this.tip.replaceChildren(...lines);
    this.tip.style.display = "block";
    const all = this.root.getBoundingClientRect(), wide = this.tip.offsetWidth;
    this.tip.style.left = `${clamp(event.clientX - all.left + 14, 0, all.width - wide)}px`;
    this.tip.style.top = `${event.clientY - all.top + 16}px`;
  }

  hideTip() {
    this.tip.style.display = "none";
    for (const lit of this.panes.querySelectorAll(".lit")) lit.classList.remove("lit");
  }

  /** @param {"png" | "svg"} kind */
  async save(kind) {
    this.closeSheets();
    const columns = getComputedStyle(this.panes).gridTemplateColumns.split(" ").length;
    const made = exported(this.figures, columns, this.view, this.unit(this.figures[0].svg), this.data, this.confidence);
    const text = new XMLSerializer().serializeToString(made.svg);
    const blob = new Blob([text], { type: "image/svg+xml" });
    download(kind === "svg" ? blob : await toPng(blob, made.width, made.height), `${fileName(this.data)}.${kind}`);
  }
}

/** @param {Box} box */
const caption = (box) => (box.kind === "missed" || box.score == null ? box.label : `${box.label} ${box.score.toFixed(2)}`);

/** The boxes of a pane without the ground truth. @param {Figure} figure */
const detections = (figure) => figure.items.map((item) => item.box).filter((box) => box.kind !== "truth");

/**
 * A view enlarged about a point.
 * @param {View} view @param {number} by @param {Point} point @returns {View}
 */
const scaled = ([x, y, w, h], by, [cx, cy]) => [cx - (cx - x) * by, cy - (cy - y) * by, w * by, h * by];

/** @param {Data} data */
export function fileName(data) {
  return `${data.name} ${data.condition}`.replace(/\.[a-z]+(?= )/i, "").replace(/[^\w.+-]+/g, "-").replace(/^[-.]+|-+$/g, "").slice(0, 100) || "view";
}

/**
 * The panes as one drawing that needs neither this page nor its styles; lengths are px of the screen.
 * @param {Figure[]} figures @param {number} columns @param {View} view @param {number} unit @param {Data} data
 * @param {number} confidence
 */
function exported(figures, columns, view, unit, data, confidence) {
  const pane = [view[2] / unit, view[3] / unit], cell = [pane[0] + GAP, pane[1] + CAPTION + GAP];
  const rows = Math.ceil(figures.length / columns);
  const width = Math.round(columns * cell[0] + GAP), height = Math.round(rows * cell[1] + GAP + 22);
  const svg = node("svg", { xmlns: SVG, width, height, viewBox: `0 0 ${width} ${height}`, "font-family": "system-ui, sans-serif" });
  svg.append(node("rect", { width, height, fill: "#ffffff" }));
  figures.forEach((figure, i) => {
    const x = GAP + (i % columns) * cell[0], y = GAP + Math.floor(i / columns) * cell[1];
    const title = node("text", { x, y: y + 17, "font-size": 14, "font-weight": 650, fill: "#1a2233" });
    title.textContent = figure.title;
    const counts = node("text", { x: x + pane[0], y: y + 17, "font-size": 12, fill: "#1a2233", "text-anchor": "end" });
    counts.textContent = [...figure.counts.children].map((span) => span.textContent).join("  ");
    const inner = node("svg", { x, y: y + CAPTION - 4, width: pane[0], height: pane[1], viewBox: view.join(" ") });
    inner.append(figure.image.cloneNode(), ...figure.items.filter((item) => item.visible).map((item) => still(item.box, unit, data.colors)));
    for (const label of figure.labels.querySelectorAll("g")) {
      const copy = node("g", {}), rect = find(label, "rect", SVGElement).cloneNode();
      copy.append(rect, find(label, "text", SVGElement).cloneNode(true));
      copy.children[0].setAttribute("fill", data.colors[label.dataset.kind ?? ""]);
      inner.append(copy);
    }
    svg.append(title, counts, inner);
  });
  const foot = node("text", { x: GAP, y: height - GAP, "font-size": 11, fill: "#5a6272" });
  foot.textContent = [data.name, data.condition, `confidence ${confidence.toFixed(2)}`].filter(Boolean).join(" · ");
  svg.append(foot);
  return { svg, width, height };
}

/** A box with its style in attributes. @param {Box} box @param {number} unit @param {Record<string, string>} colors */
function still(box, unit, colors) {
  const group = node("g", { fill: "none" }), size = { x: box.x, y: box.y, width: box.w, height: box.h };
  const thick = (box.kind === "truth" ? 1.1 : box.flip ? 3.6 : 2.2) * unit;
  /** @type {Attributes} */
  const dash = DASHES[box.kind] ? { "stroke-dasharray": DASHES[box.kind].map((n) => n * unit).join(" ") } : {};
  /** @type {Attributes} */
  const filled = box.flip ? { fill: colors[box.kind], "fill-opacity": 0.18 } : {};
  group.append(node("rect", { ...size, stroke: "#000000", "stroke-opacity": 0.55, "stroke-width": thick * 2 }),
    node("rect", { ...size, stroke: colors[box.kind], "stroke-width": thick, ...dash, ...filled }));
  return group;
}

/** @param {Blob} blob an SVG @param {number} width px @param {number} height px @returns {Promise<Blob>} */
async function toPng(blob, width, height) {
  const url = URL.createObjectURL(blob), image = new Image();
  image.src = url;
  await image.decode();
  const canvas = element("canvas", { width: 2 * width, height: 2 * height });
  context(canvas).drawImage(image, 0, 0, canvas.width, canvas.height);
  URL.revokeObjectURL(url);
  return new Promise((done, fail) => canvas.toBlob((png) => (png ? done(png) : fail(new Error("no PNG"))), "image/png"));
}

/** @param {HTMLCanvasElement} canvas */
function context(canvas) {
  const found = canvas.getContext("2d");
  if (!found) throw new Error("this browser draws nothing");
  return found;
}

/** @param {Blob} blob @param {string} name */
function download(blob, name) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** @param {Box} box */
function drawn(box) {
  const group = node("g", { class: `box ${box.kind}` });
  const size = { x: box.x, y: box.y, width: box.w, height: box.h };
  group.append(node("rect", { class: "halo", ...size }), node("rect", { class: "line", ...size }));
  return group;
}

/** @param {Label} label @param {{x: number, y: number}} at @param {number} unit */
function tag({ box, w, h }, at, unit) {
  const group = node("g", { class: `label ${box.kind}`, "data-kind": box.kind });
  const text = node("text", { x: at.x + LABEL.pad * unit, y: at.y + 12.6 * unit, "font-size": LABEL.size * unit, "font-weight": 600, fill: "#0b0e14" });
  text.textContent = caption(box);
  group.append(node("rect", { class: "tag", x: at.x, y: at.y, width: w, height: h, rx: 3 * unit }), text);
  return group;
}

/** @type {CanvasRenderingContext2D | null} */
let pen = null;
/** @param {string} text of a label @returns {number} px of the screen */
function textWidth(text) {
  if (!pen) {
    pen = context(document.createElement("canvas"));
    pen.font = `600 ${LABEL.size}px ${getComputedStyle(document.body).fontFamily}`;
  }
  return pen.measureText(text).width;
}

/** @param {string} kind */
function swatch(kind) {
  const svg = node("svg", { viewBox: "0 0 22 14", "aria-hidden": "true" });
  const group = node("g", { class: `box ${kind}` });
  group.append(node("rect", { class: "line", x: 3, y: 2, width: 16, height: 10 }));
  svg.append(group);
  return svg;
}

/** @param {unknown} view @param {Data} data @returns {view is View} */
function isView(view, data) {
  return Array.isArray(view) && view.length === 4 && view.every(Number.isFinite) && view[2] > 0 && view[2] <= data.width;
}

/**
 * The first element below another that a selector names.
 * @template {Element} T @param {Element} root @param {string} selector @param {new () => T} kind @returns {T}
 */
function find(root, selector, kind) {
  const found = root.querySelector(selector);
  if (!(found instanceof kind)) throw new Error(`no ${selector}`);
  return found;
}

/** @template {Element} T @param {T} made @param {Attributes} attributes @returns {T} */
function set(made, attributes) { for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, `${value}`); return made; }
/** @template {keyof SVGElementTagNameMap} K @param {K} name @param {Attributes} attributes */
const node = (name, attributes) => set(document.createElementNS(SVG, name), attributes);
/** @template {keyof HTMLElementTagNameMap} K @param {K} name @param {Attributes} attributes */
const element = (name, attributes) => set(document.createElement(name), attributes);

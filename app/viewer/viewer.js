// Two panes over one image, zoomed and moved in step. Confidence, labels and truth are applied here, without
// asking Python: a box's outcome does not depend on boxes of lower confidence.
const SVG = "http://www.w3.org/2000/svg";
const RANK = { false: 0, missed: 1, matched: 2 }; // drawn in this order, so that what was found lies on top
const PEN = document.createElement("canvas").getContext("2d");
const WORDS = { matched: "matched", missed: "missed", false: "false", both: "found by both", only: "only here" };

export default function (component) {
  const { parentElement, data } = component;
  const viewer = parentElement.viewer ?? (parentElement.viewer = new Viewer(parentElement));
  viewer.update(component, data);
  return () => {};
}

class Viewer {
  constructor(root) {
    this.view = null; // x, y, w, h in image pixels
    this.root = document.createElement("div");
    this.root.className = "viewer";
    this.root.innerHTML = `<div class="panes"></div>
      <div class="bar">
        <span class="group steps"><button class="previous" title="Previous image (←)" aria-label="Previous image">←</button
        ><button class="next" title="Next image (→)" aria-label="Next image">→</button></span>
        <label>Confidence <input class="confidence" type="range" min="0.05" max="0.95" step="0.01"><output></output></label>
        <label><input class="truth" type="checkbox"> Ground truth</label>
        <label><input class="tags" type="checkbox"> Labels</label>
        <span class="spacer"></span>
        <span class="group"><button class="out" title="Zoom out (−)" aria-label="Zoom out">−</button
        ><button class="whole" title="Whole image (0)" aria-label="Whole image">⤢</button
        ><button class="in" title="Zoom in (+)" aria-label="Zoom in">+</button></span>
      </div>
      <div class="key"></div>
      <div class="hint"></div>`;
    root.appendChild(this.root);
    this.find = (name) => this.root.querySelector(name);
    this.panes = this.find(".panes");
    this.wire();
  }

  update(component, data) {
    this.component = component;
    const other = this.data?.id !== data.id, first = !this.data;
    if (this.data?.of !== data.of || circle(this.wanted, data.of) === data.place) this.wanted = null;
    this.data = data;
    if (first) {
      this.confidence = data.state.confidence;
      this.truth = data.state.truth;
      this.tags = data.state.labels;
      this.view = data.state.view && inside(data.state.view, data) ? data.state.view : null;
    } else if (other) this.view = null;
    this.view ??= [0, 0, data.width, data.height];
    this.find(".steps").style.display = data.of > 1 ? "" : "none";
    this.find("input.truth").parentElement.style.display = data.truth.length ? "" : "none";
    this.find(".hint").textContent = `${data.of > 1 ? "← → next image · " : ""}+ − 0 zoom, or double-click, drag, pinch, Ctrl + wheel · ${data.truth.length ? "G ground truth · " : ""}L labels`;
    for (const [kind, color] of Object.entries(data.colors)) this.root.style.setProperty(`--${kind}`, color);
    this.draw();
  }

  wire() {
    const on = (name, event, act) => this.find(name).addEventListener(event, act);
    on(".confidence", "input", (e) => { this.confidence = +e.target.value; this.apply(); });
    on(".confidence", "change", () => this.tell());
    on("input.truth", "change", (e) => { this.truth = e.target.checked; this.apply(); this.tell(); });
    on(".tags", "change", (e) => { this.tags = e.target.checked; this.apply(); this.tell(); });
    on(".previous", "click", () => this.step(-1));
    on(".next", "click", () => this.step(1));
    on(".in", "click", () => this.zoom(0.6));
    on(".out", "click", () => this.zoom(1 / 0.6));
    on(".whole", "click", () => this.show([0, 0, this.data.width, this.data.height]));
    const keys = { ArrowLeft: () => this.step(-1), ArrowRight: () => this.step(1), "+": () => this.zoom(0.6),
      "=": () => this.zoom(0.6), "-": () => this.zoom(1 / 0.6), 0: () => this.find(".whole").click(),
      g: () => this.data.truth.length && this.find("input.truth").click(), l: () => this.find("input.tags").click() };
    document.addEventListener("keydown", (event) => {
      if (!this.root.isConnected || event.ctrlKey || event.metaKey || event.altKey) return;
      const from = event.composedPath()[0], inside = (names) => from.closest?.(names);
      if (inside("textarea, select, [role=combobox], [contenteditable], input:not([type=range], [type=checkbox])")) return;
      if (event.key.startsWith("Arrow") && inside("[type=range], [role=slider], [role=radio], [role=tab]")) return;
      const act = keys[event.key];
      if (act) { event.preventDefault(); act(); }
    });
  }

  // Where to, not how far: what is pressed before the last image came is not lost.
  step(by) {
    if (this.data.of < 2) return;
    this.wanted = (this.wanted ?? this.data.place) + by;
    this.component.setTriggerValue("step", this.wanted);
  }

  tell() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.component.setStateValue("view", {
      confidence: this.confidence, truth: this.truth, labels: this.tags,
      view: this.whole() ? null : this.view.map((n) => Math.round(n * 10) / 10),
    }), 250);
  }

  whole() { return this.view[2] >= this.data.width * 0.999; }

  draw() {
    const { data } = this;
    this.panes.replaceChildren(...data.panes.map((pane, index) => this.pane(pane, index)));
    this.panes.style.gridTemplateColumns = data.panes.length === 1 ? "1fr" : "";
    const items = data.kinds.map((kind) => swatch(kind, WORDS[kind]));
    if (data.truth.length) items.push(swatch("truth", "ground truth"));
    if (data.truth.length && data.panes.length === 2) items.push(swatch("matched flip", "filled: the two differ"));
    this.find(".key").replaceChildren(...items);
    this.apply();
  }

  pane(pane, index) {
    const figure = element("figure", { class: "pane" });
    const caption = element("figcaption", {});
    const name = element("span", { class: "name" });
    name.textContent = pane.title;
    caption.append(name, element("span", { class: "counts", "aria-live": "polite" }));
    const stage = element("div", { class: "stage" });
    const svg = node("svg", { role: "img", "aria-label": `${pane.title}: the image with its boxes`, preserveAspectRatio: "xMidYMid meet" });
    svg.style.aspectRatio = `${this.data.width} / ${this.data.height}`;
    svg.append(node("image", { href: pane.image ?? this.data.image, x: 0, y: 0, width: this.data.width, height: this.data.height }));
    for (const box of this.data.truth) svg.append(drawn({ ...box, kind: "truth" }));
    const groups = pane.boxes.map(drawn);
    groups.forEach((group, i) => { group.rank = RANK[pane.boxes[i].kind] ?? 1; });
    svg.append(...[...groups].sort((a, b) => a.rank - b.rank));
    figure.groups = groups;
    svg.append(node("circle", { class: "dot", r: 1 }));
    this.follow(svg);
    stage.append(svg);
    figure.append(caption, stage);
    return figure;
  }

  apply() {
    const { data } = this;
    this.root.classList.toggle("labels", this.tags);
    this.find(".confidence").value = this.confidence;
    this.find("output").textContent = this.confidence.toFixed(2);
    this.find("input.truth").checked = this.truth;
    this.find("input.tags").checked = this.tags;
    const figures = [...this.panes.children];
    const kept = data.panes.map((pane) => pane.boxes.map((box) => shown(box, this.confidence)));
    const lost = data.panes.map((pane, p) => new Set(pane.boxes.filter((b, i) => kept[p][i] && b.kind === "missed").map((b) => b.object)));
    figures.forEach((figure, p) => {
      const counts = {};
      const boxes = figure.groups;
      data.panes[p].boxes.forEach((box, i) => {
        boxes[i].style.display = kept[p][i] ? "" : "none";
        if (box.partner !== undefined) {
          box.kind = box.partner >= this.confidence ? "both" : "only";
          boxes[i].setAttribute("class", `box ${box.kind}`);
        }
        const both = data.panes.length === 2 && box.object !== undefined && (lost[0].has(box.object) !== lost[1].has(box.object));
        box.flip = both;
        boxes[i].classList.toggle("flip", Boolean(box.flip));
        if (kept[p][i]) counts[box.kind] = (counts[box.kind] ?? 0) + 1;
      });
      for (const truth of figure.querySelectorAll(".truth")) truth.style.display = this.truth ? "" : "none";
      figure.querySelector(".counts").replaceChildren(...data.kinds.map((kind) => {
        const span = element("span", {}), number = element("b", {});
        number.textContent = counts[kind] ?? 0;
        span.append(number, ` ${WORDS[kind]}`);
        return span;
      }));
    });
    this.show(this.view, true);
  }

  // Panes share `view`; labels keep their size on the screen.
  show(view, quiet) {
    const { width, height } = this.data;
    const w = Math.min(width, Math.max(view[2], width / 40)), h = (w * height) / width;
    this.view = [clamp(view[0], 0, width - w), clamp(view[1], 0, height - h), w, h];
    this.root.classList.toggle("zoomed", !this.whole());
    for (const svg of this.panes.querySelectorAll("svg")) {
      svg.setAttribute("viewBox", this.view.join(" "));
      const unit = w / (svg.clientWidth || 600);
      svg.firstChild.classList.toggle("near", unit < 0.6);
      for (const label of svg.querySelectorAll(".label")) place(label, unit, this.view);
      svg.querySelector(".dot").setAttribute("r", 9 * unit);
    }
    if (!quiet) this.tell();
  }

  zoom(by, at) {
    const [x, y, w, h] = this.view;
    const [cx, cy] = at ?? [x + w / 2, y + h / 2];
    this.show([cx - (cx - x) * by, cy - (cy - y) * by, w * by, h * by]);
  }

  follow(svg) {
    const held = new Map();
    let from = null;
    const at = (event) => {
      const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      return [point.x, point.y];
    };
    const spread = () => { const [a, b] = [...held.values()]; return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY); };
    svg.addEventListener("pointerdown", (event) => {
      held.set(event.pointerId, event);
      if (!this.whole() || held.size === 2) svg.setPointerCapture(event.pointerId);
      from = { view: [...this.view], x: event.clientX, y: event.clientY, spread: held.size === 2 ? spread() : 0, at: at(event) };
      if (!this.whole()) svg.classList.add("held");
    });
    svg.addEventListener("pointermove", (event) => {
      this.point(svg, at(event));
      if (!held.has(event.pointerId) || !from) return;
      held.set(event.pointerId, event);
      const unit = from.view[2] / svg.clientWidth;
      if (held.size === 2 && from.spread) {
        const by = from.spread / spread(), [x, y, w, h] = from.view, [cx, cy] = from.at;
        this.show([cx - (cx - x) * by, cy - (cy - y) * by, w * by, h * by]);
      } else if (!this.whole()) {
        this.show([from.view[0] - (event.clientX - from.x) * unit, from.view[1] - (event.clientY - from.y) * unit, from.view[2], from.view[3]]);
      }
    });
    for (const end of ["pointerup", "pointercancel"]) svg.addEventListener(end, (event) => { held.delete(event.pointerId); from = null; svg.classList.remove("held"); });
    svg.addEventListener("pointerleave", () => this.point(svg, null));
    svg.addEventListener("dblclick", (event) => this.zoom(0.5, at(event)));
    svg.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      this.zoom(Math.exp(event.deltaY * 0.004), at(event));
    }, { passive: false });
  }

  // The same place in the other pane.
  point(from, at) {
    for (const svg of this.panes.querySelectorAll("svg")) {
      const dot = svg.querySelector(".dot");
      dot.style.display = at && svg !== from ? "inline" : "none";
      if (at) { dot.setAttribute("cx", at[0]); dot.setAttribute("cy", at[1]); }
    }
  }
}

// A detection shows from its score up; a missed object where its detection scores less, or it has none.
function shown(box, confidence) {
  return box.kind === "missed" ? !(box.score >= confidence) : box.score >= confidence;
}

function drawn(box) {
  const group = node("g", { class: `box ${box.kind}` });
  const size = { x: box.x, y: box.y, width: box.w, height: box.h };
  group.append(node("rect", { class: "halo", ...size }), node("rect", { class: "line", ...size }));
  if (box.kind === "truth") return group;
  const label = node("g", { class: "label" });
  const text = node("text", {});
  text.textContent = box.kind === "missed" ? box.label : `${box.label} ${box.score.toFixed(2)}`;
  label.append(node("rect", { class: "tag" }), text);
  label.box = box;
  group.append(label);
  return group;
}

// At the upper left corner of the box, turned inwards at the upper edge of the image.
function place(label, unit, view) {
  const { x, y } = label.box, [tag, text] = label.children;
  const wide = (label.wide ??= width(text)) * unit + 10 * unit, high = 17 * unit;
  const left = Math.min(x, view[0] + view[2] - wide), top = y - high < view[1] ? y : y - high;
  for (const [key, value] of Object.entries({ x: left, y: top, width: wide, height: high, rx: 3 * unit })) tag.setAttribute(key, value);
  text.style.fontSize = `${12 * unit}px`;
  text.setAttribute("x", left + 5 * unit);
  text.setAttribute("y", top + 12.6 * unit);
}

// Of a label at 12 px, shown or not.
function width(text) {
  PEN.font = `600 12px ${getComputedStyle(text).fontFamily}`;
  return PEN.measureText(text.textContent).width;
}

function swatch(kind, words) {
  const span = element("span", {});
  span.dataset.kind = kind;
  const svg = node("svg", { viewBox: "0 0 26 16", "aria-hidden": "true" });
  const group = node("g", { class: `box ${kind}` });
  group.append(node("rect", { class: "line", x: 4, y: 3, width: 18, height: 10 }));
  svg.append(group);
  span.append(svg, words);
  return span;
}

function inside(view, data) {
  return Array.isArray(view) && view.length === 4 && view.every(Number.isFinite) && view[2] > 0 && view[2] <= data.width;
}
const circle = (number, of) => number == null ? null : ((number % of) + of) % of;
const clamp = (value, low, high) => Math.min(Math.max(value, low), Math.max(high, low));
function set(made, attributes) { for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value); return made; }
const node = (name, attributes) => set(document.createElementNS(SVG, name), attributes);
const element = (name, attributes) => set(document.createElement(name), attributes);

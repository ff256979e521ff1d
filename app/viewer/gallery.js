// A page of thumbnails. Their pictures are asked for when they come into view, a few at a time.

/** @typedef {{x: number, y: number, w: number, h: number, kind: string}} Box in pixels of the image */
/** @typedef {{id: number, name: string, width: number, height: number, text: string, boxes: Box[]}} Item */
/**
 * @typedef {{items: Item[], first: number, of: number, size: number, thumbs: Record<string, string>, lazy: boolean,
 *   columns: number, colors: Record<string, string>}} Data what Python sends
 */
/**
 * @typedef {{data: Data, parentElement: HTMLElement & {gallery?: Gallery},
 *   setTriggerValue: (name: string, value: unknown) => void}} Component what Streamlit passes
 */
/** @typedef {Record<string, string | number | boolean>} Attributes */

const SVG = "http://www.w3.org/2000/svg";
const AT_ONCE = 10, PAUSE = 30; // thumbnails, ms

/** @param {Component} component */
export default function (component) {
  const { parentElement } = component;
  const gallery = parentElement.gallery ?? (parentElement.gallery = new Gallery(component));
  gallery.update(component);
  return () => {};
}

/** The ids to ask for next. @param {Item[]} items @param {Set<number>} seen @param {Map<string, string>} thumbs */
export const missing = (items, seen, thumbs) => items.map((i) => i.id).filter((id) => seen.has(id) && !thumbs.has(String(id))).slice(0, AT_ONCE);

class Gallery {
  /** @param {Component} component */
  constructor(component) {
    this.component = component;
    this.data = component.data;
    /** @type {Map<string, string>} by image id, of this page */
    this.thumbs = new Map();
    /** @type {Set<number>} */
    this.seen = new Set();
    this.left = false;
    this.waiting = false;
    /** @type {string | undefined} what is drawn */
    this.key = undefined;
    /** @type {number | undefined} */
    this.timer = undefined;
    this.root = document.createElement("div");
    this.root.className = "gallery";
    this.root.innerHTML = `<div class="grid" role="list"></div>
      <nav aria-label="Pages of the gallery"><button class="previous">← Previous</button><output></output><button class="next">Next →</button></nav>`;
    component.parentElement.appendChild(this.root);
    this.find(".previous").addEventListener("click", () => this.turn(-1));
    this.find(".next").addEventListener("click", () => this.turn(1));
    this.observer = new IntersectionObserver((entries) => {
      for (const { isIntersecting, target } of entries) if (isIntersecting) this.seen.add(Number(target.getAttribute("data-id")));
      this.ask();
    }, { rootMargin: "200px" });
  }

  /** @param {string} name a selector @returns {HTMLElement} */
  find(name) {
    const found = this.root.querySelector(name);
    if (!(found instanceof HTMLElement)) throw new Error(`no ${name}`);
    return found;
  }

  /** @param {Component} component */
  update(component) {
    const { data } = component;
    this.component = component;
    const key = JSON.stringify(data.items);
    const same = this.key === key, first = this.key === undefined;
    this.data = data;
    this.key = key;
    for (const [kind, color] of Object.entries(data.colors)) this.root.style.setProperty(`--${kind}`, color);
    if (!same) {
      this.thumbs.clear();
      this.seen.clear();
      this.left = false;
      this.draw();
      const home = this.root.getRootNode();
      if (!first && home instanceof ShadowRoot) home.host.closest("[data-testid=stMain]")?.scrollTo(0, 0);
    }
    for (const [id, url] of Object.entries(data.thumbs)) this.put(id, url);
    this.waiting = false;
    this.ask();
  }

  draw() {
    const { items, first, of, size } = this.data;
    this.observer.disconnect();
    this.find(".grid").replaceChildren(...items.map((item) => this.tile(item)));
    for (const tile of this.find(".grid").children) this.observer.observe(tile);
    this.root.classList.toggle("row", this.data.columns > 0);
    if (this.data.columns) this.find(".grid").style.setProperty("--columns", `${this.data.columns}`);
    this.find("nav").style.display = of > size ? "" : "none";
    this.find(".previous").toggleAttribute("disabled", first === 0);
    this.find(".next").toggleAttribute("disabled", first + items.length >= of);
    this.find("output").textContent = `${first + 1} to ${first + items.length} of ${of.toLocaleString("en")}`;
  }

  /** @param {Item} item */
  tile(item) {
    const cell = element("div", { class: "tile", role: "listitem", "data-id": item.id });
    const button = element("button", { "aria-label": `Open ${item.name}` });
    const svg = node("svg", { viewBox: `0 0 ${item.width} ${item.height}`, "aria-hidden": true });
    svg.append(node("image", { width: item.width, height: item.height }), ...item.boxes.flatMap((box) => ["halo", "line"].map(
      (part) => node("rect", { x: box.x, y: box.y, width: box.w, height: box.h, class: `${part} ${box.kind}` }),
    )));
    const name = element("span", { class: "name" }), text = element("span", { class: "text" });
    name.textContent = item.name;
    text.textContent = item.text;
    button.append(svg, name, text);
    button.addEventListener("click", () => { this.left = true; this.component.setTriggerValue("open", item.id); });
    cell.append(button);
    return cell;
  }

  /** @param {string} id of an image @param {string} url of its thumbnail */
  put(id, url) {
    this.thumbs.set(id, url);
    this.root.querySelector(`.tile[data-id="${id}"] image`)?.setAttribute("href", url);
  }

  // Of what is triggered while the server works, only the last arrives: nothing is asked for after a click.
  ask() {
    clearTimeout(this.timer);
    if (!this.data.lazy || this.waiting || this.left) return;
    this.timer = setTimeout(() => {
      const ids = missing(this.data.items, this.seen, this.thumbs);
      if (!ids.length || this.left || !this.root.isConnected) return;
      this.waiting = true;
      this.component.setTriggerValue("want", ids);
    }, PAUSE);
  }

  /** @param {number} by pages */
  turn(by) {
    this.left = true;
    this.component.setTriggerValue("page", Math.floor(this.data.first / this.data.size) + by);
  }
}

/** @template {Element} T @param {T} made @param {Attributes} attributes @returns {T} */
function set(made, attributes) { for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, `${value}`); return made; }
/** @template {keyof SVGElementTagNameMap} K @param {K} name @param {Attributes} attributes */
const node = (name, attributes) => set(document.createElementNS(SVG, name), attributes);
/** @template {keyof HTMLElementTagNameMap} K @param {K} name @param {Attributes} attributes */
const element = (name, attributes) => set(document.createElement(name), attributes);

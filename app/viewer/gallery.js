// A page of thumbnails. Their pictures are asked for when they come into view, a few at a time.

/** @typedef {{x: number, y: number, w: number, h: number, kind: string}} Box in pixels of the image */
/** @typedef {{id: number, name: string, width: number, height: number, text: string, boxes: Box[]}} Item */
/**
 * @typedef {{items: Item[], first: number, of: number, size: number, thumbs: Record<string, string>, lazy: boolean,
 *   columns: number, colors: Record<string, string>}} Data
 */

const SVG = "http://www.w3.org/2000/svg";
const AT_ONCE = 10, PAUSE = 30; // thumbnails, ms

export default function (component) {
  const { parentElement, data } = component;
  const gallery = parentElement.gallery ?? (parentElement.gallery = new Gallery(parentElement));
  gallery.update(component, data);
  return () => {};
}

/** The ids to ask for next. @param {Item[]} items @param {Set<number>} seen @param {Map<string, string>} thumbs */
export const missing = (items, seen, thumbs) => items.map((i) => i.id).filter((id) => seen.has(id) && !thumbs.has(String(id))).slice(0, AT_ONCE);

class Gallery {
  constructor(root) {
    this.thumbs = new Map(); // by image id, of this page
    this.seen = new Set();
    this.root = document.createElement("div");
    this.root.className = "gallery";
    this.root.innerHTML = `<div class="grid" role="list"></div>
      <nav aria-label="Pages of the gallery"><button class="previous">← Previous</button><output></output><button class="next">Next →</button></nav>`;
    root.appendChild(this.root);
    this.find = (name) => this.root.querySelector(name);
    this.find(".previous").addEventListener("click", () => this.turn(-1));
    this.find(".next").addEventListener("click", () => this.turn(1));
    this.observer = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting) this.seen.add(+entry.target.dataset.id);
      this.ask();
    }, { rootMargin: "200px" });
  }

  /** @param {Data} data */
  update(component, data) {
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
      if (!first) this.root.getRootNode().host?.closest("[data-testid=stMain]")?.scrollTo(0, 0);
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
    if (this.data.columns) this.find(".grid").style.setProperty("--columns", this.data.columns);
    this.find("nav").style.display = of > size ? "" : "none";
    this.find(".previous").disabled = first === 0;
    this.find(".next").disabled = first + items.length >= of;
    this.find("output").textContent = `${first + 1} to ${first + items.length} of ${of.toLocaleString("en")}`;
  }

  /** @param {Item} item */
  tile(item) {
    const cell = element("div", { class: "tile", role: "listitem", "data-id": item.id });
    const button = element("button", { "aria-label": `Open ${item.name}` });
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${item.width} ${item.height}`);
    svg.setAttribute("aria-hidden", "true");
    const image = document.createElementNS(SVG, "image");
    for (const [name, value] of Object.entries({ width: item.width, height: item.height })) image.setAttribute(name, value);
    svg.append(image, ...item.boxes.flatMap((box) => ["halo", "line"].map((part) => {
      const rect = document.createElementNS(SVG, "rect");
      for (const [name, value] of Object.entries({ x: box.x, y: box.y, width: box.w, height: box.h, class: `${part} ${box.kind}` })) rect.setAttribute(name, value);
      return rect;
    })));
    const name = element("span", { class: "name" }), text = element("span", { class: "text" });
    name.textContent = item.name;
    text.textContent = item.text;
    button.append(svg, name, text);
    button.addEventListener("click", () => { this.left = true; this.component.setTriggerValue("open", item.id); });
    cell.append(button);
    return cell;
  }

  put(id, url) {
    this.thumbs.set(id, url);
    this.find(`.tile[data-id="${id}"] image`)?.setAttribute("href", url);
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

  turn(by) {
    this.left = true;
    this.component.setTriggerValue("page", Math.floor(this.data.first / this.data.size) + by);
  }
}

const element = (name, attributes) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
};

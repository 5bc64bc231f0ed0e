// Elements. Whatever comes from a worker becomes text, never markup.

export function byId(id: string): HTMLElement {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no element ${id}`);
  return found;
}

type Attributes = Record<string, string | number>;

export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  made.append(...children);
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

export function draw<K extends keyof SVGElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
): SVGElementTagNameMap[K] {
  const made = document.createElementNS(SVG, tag);
  set(made, attributes);
  return made;
}

/** Sets what has changed. */
export function set(element: Element, attributes: Attributes): void {
  for (const [name, value] of Object.entries(attributes)) {
    const text = String(value);
    if (element.getAttribute(name) !== text) element.setAttribute(name, text);
  }
}

export function write(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** One element a key, made and removed as keys come and go, in the order of the keys. */
export class Keyed<E extends Element> {
  private readonly known = new Map<string, E>();

  constructor(
    private readonly parent: Element,
    private readonly create: (key: string) => E,
  ) {}

  update(keys: string[]): void {
    const wanted = new Set(keys);
    for (const [key, element] of this.known) {
      if (!wanted.has(key)) {
        element.remove();
        this.known.delete(key);
      }
    }
    keys.forEach((key, index) => {
      const element = this.get(key);
      if (this.parent.children[index] !== element) {
        this.parent.insertBefore(element, this.parent.children[index] ?? null);
      }
    });
  }

  get(key: string): E {
    let element = this.known.get(key);
    if (!element) {
      element = this.create(key);
      this.known.set(key, element);
    }
    return element;
  }
}

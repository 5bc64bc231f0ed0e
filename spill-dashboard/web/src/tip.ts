// The explanation of whatever is pointed at or has the keyboard's focus: the attribute `data-tip`.

import { byId, write } from "./dom";

const SELECTOR = "[data-tip]";

let shown: Element | undefined;

export function startTips(): void {
  const tip = byId("tip");
  const over = (event: Event) => {
    const target = event.target instanceof Element ? event.target.closest(SELECTOR) : null;
    if (target) showTip(target);
    else if (event.type === "pointerover") hideTip();
  };
  document.addEventListener("pointerover", over);
  document.addEventListener("focusin", over);
  document.addEventListener("focusout", hideTip);
  document.documentElement.addEventListener("pointerleave", hideTip);
  document.addEventListener("keydown", (event) => event.key === "Escape" && hideTip());
  document.addEventListener("scroll", () => shown && place(tip, shown), { capture: true, passive: true });
}

export function showTip(target: Element): void {
  const tip = byId("tip");
  if (shown !== target) hideTip();
  shown = target;
  target.setAttribute("aria-describedby", "tip");
  tip.hidden = false;
  refreshTip();
  place(tip, target);
}

/** What is shown follows the figures. */
export function refreshTip(): void {
  if (!shown) return;
  const text = shown.getAttribute("data-tip");
  if (!shown.isConnected || text === null) hideTip();
  else write(byId("tip"), text);
}

export function hideTip(): void {
  shown?.removeAttribute("aria-describedby");
  shown = undefined;
  byId("tip").hidden = true;
}

function place(tip: HTMLElement, target: Element): void {
  const at = target.getBoundingClientRect();
  const size = tip.getBoundingClientRect();
  const room = document.documentElement.clientWidth - size.width - 8;
  const left = Math.max(8, Math.min(at.left + at.width / 2 - size.width / 2, room));
  const below = at.bottom + 8 + size.height < document.documentElement.clientHeight;
  tip.style.left = `${left}px`;
  tip.style.top = `${below ? at.bottom + 8 : Math.max(8, at.top - size.height - 8)}px`;
}

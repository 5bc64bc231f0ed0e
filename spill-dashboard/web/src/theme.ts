// Dark, light, or as the system has it.

import { byId } from "./dom";

const THEMES = ["system", "light", "dark"] as const;
type Theme = (typeof THEMES)[number];
const KEY = "overspill-theme";

export function startTheme(changed: () => void): void {
  const button = byId("theme");
  let theme: Theme = THEMES.find((theme) => theme === stored()) ?? "system";
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const shown = theme === "system" ? (dark.matches ? "dark" : "light") : theme;
    document.documentElement.dataset["theme"] = shown;
    button.textContent = `colours: ${theme}`;
    changed();
  };
  button.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] ?? "system";
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // Not kept where the browser keeps nothing.
    }
    apply();
  });
  dark.addEventListener("change", apply);
  apply();
}

function stored(): string | null {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

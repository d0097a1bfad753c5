/** Dark, light, or as the system has it; the one thing that this page keeps from visit to visit. */

const KEY = "nstx-theme";
const NEXT = { system: "light", light: "dark", dark: "system" };
const WORDS = { system: "Theme: as the system's", light: "Theme: light", dark: "Theme: dark" };

function read() {
  try {
    const kept = localStorage.getItem(KEY);
    return kept in NEXT ? kept : "system";
  } catch {
    return "system"; // a browser may refuse to keep anything
  }
}

function apply(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

/** Have a button go from theme to theme. */
export function bindTheme(button) {
  let theme = read();
  const show = () => {
    apply(theme);
    button.setAttribute("aria-label", WORDS[theme]);
    button.title = WORDS[theme];
  };
  button.addEventListener("click", () => {
    theme = NEXT[theme];
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // It lasts as long as the page, then.
    }
    show();
  });
  show();
}

apply(read());

/** Dialogs: the token, and the list of keys. */

import { byId } from "./dom.js";

/** Ask for the token until there is one. */
export function askForToken(wasWrong) {
  const dialog = byId("token");
  const field = byId("token-field");
  byId("token-error").textContent = wasWrong ? "The server does not take this token." : "";
  field.value = "";
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) => {
    const close = () => {
      const token = field.value.trim();
      field.value = "";
      if (!token) return dialog.showModal(); // without one there is nothing to be seen
      dialog.removeEventListener("close", close);
      resolve(token);
    };
    dialog.addEventListener("close", close);
  });
}

/** Have a button, and "?", show the list of keys; "n" goes to a new picture. */
export function bindKeys(opener) {
  const dialog = byId("keys");
  opener.addEventListener("click", () => dialog.showModal());
  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.closest("input:not([type=radio], [type=range], [type=checkbox]), select, textarea");
    if (isTyping || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.key === "?") dialog.showModal();
    if (event.key === "n") location.hash = "#/new";
  });
}

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

/** Have a button show the list of keys. */
export function bindKeys(opener) {
  opener.addEventListener("click", () => byId("keys").showModal());
}

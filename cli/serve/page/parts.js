/** Where the photograph is painted: a mask, or a map of colours with a painting for each. */

import { make } from "./dom.js";

const PARTS = [
  ["mask", "Mask", "White is painted, black stays."],
  ["regions", "Map of regions", "A colour for each painting, named beside its share."],
];

/** Build the fields of a part of the photograph. */
export function makeParts(pictures) {
  const rows = PARTS.map(([name, label, text]) => {
    const id = `part-${name}`;
    const input = make("input", { type: "file", accept: "image/*", id, "aria-describedby": `${id}-hint` });
    input.addEventListener("change", () => pictures.setPart(name, input.files[0] ?? null));
    pictures.addEventListener("change", () => {
      if (!pictures[name]) input.value = "";
    });
    return make("div", { class: "field row part" }, make("label", { for: id, text: label }), input,
      make("p", { class: "hint", id: `${id}-hint`, text }));
  });
  return make("section", {}, make("h3", { text: "Parts of the photograph" }), ...rows);
}

/** The pictures that are chosen: a photograph and up to eight paintings; of each its file and how it looks. */

import { getBlob } from "./api.js";

export const SHELF = {
  photo: [["harbour", "Harbour"], ["dahlia", "Dahlia"]],
  style: [["swirls", "Swirls"], ["tesserae", "Mosaic"], ["engraving", "Woodcut"], ["dots", "Dots"]],
};

/** Where a picture of the shelf is. */
export const shelfUrl = (name) => `/page/shelf/${name}.jpg`;

/** A picture that was chosen; `close` when it is no longer shown. */
class Chosen {
  constructor(file, label, shelf = null) {
    this.file = file;
    this.label = label;
    this.shelf = shelf;
    this.weight = 1;
    this.region = "";
    this.mask = null;
    this.url = URL.createObjectURL(file);
  }

  close() {
    URL.revokeObjectURL(this.url);
  }
}

export class Pictures extends EventTarget {
  photo = null;
  styles = [];
  mask = null;
  regions = null;

  constructor(most) {
    super();
    this.most = most;
  }

  #tell() {
    this.dispatchEvent(new Event("change"));
  }

  /** Take files as the photograph or as paintings; without a role, as what is missing. */
  add(role, files, shelf = null) {
    const pictures = [...files].filter((file) => !file.type || file.type.startsWith("image/"));
    for (const file of pictures) {
      const as = role ?? (this.photo ? "style" : "photo");
      const chosen = new Chosen(file, file.name || "picture", shelf);
      if (as === "photo") {
        this.photo?.close();
        this.photo = chosen;
      } else if (this.styles.length < this.most) this.styles.push(chosen);
      else chosen.close();
    }
    if (pictures.length) this.#tell();
    return pictures.length;
  }

  /** Take one of the shelf, or put a painting of it back. */
  async take(role, name, label) {
    const at = role === "style" ? this.styles.findIndex((style) => style.shelf === name) : -1;
    if (at >= 0) return this.remove(role, at);
    const blob = await getBlob(shelfUrl(name));
    this.add(role, [new File([blob], label, { type: "image/jpeg" })], name);
  }

  remove(role, at = 0) {
    if (role === "photo") {
      this.photo?.close();
      this.photo = null;
    } else this.styles.splice(at, 1)[0]?.close();
    this.#tell();
  }

  /** Say which part of the photograph is painted; null takes it back. */
  setPart(name, file) {
    this[name] = file;
    this.#tell();
  }

  /** What a job needs, to be sent and to be had again. */
  snapshot() {
    const styles = this.styles.map(({ file, label, weight, region, mask, shelf }) => ({ file, label, weight, region, mask, shelf }));
    const { file, label, shelf } = this.photo;
    return { photo: { file, label, shelf }, styles, mask: this.mask, regions: this.regions };
  }

  /** Have pictures again that were chosen for a job. */
  restore({ photo, styles, mask, regions }) {
    this.photo?.close();
    for (const style of this.styles) style.close();
    this.photo = new Chosen(photo.file, photo.label, photo.shelf);
    this.styles = styles.map(({ file, label, weight, region, mask, shelf }) => Object.assign(new Chosen(file, label, shelf), { weight, region, mask }));
    this.mask = mask;
    this.regions = regions;
    this.#tell();
  }

  /** Of the options of a job, what is said of each painting; undefined where nothing is. */
  styleOptions() {
    if (!this.regions && this.styles.every((style) => style.weight === 1 && !style.mask)) return undefined;
    return this.styles.map(({ weight, region, mask }) => ({ weight, region: (this.regions && region.trim()) || null, mask: Boolean(mask) }));
  }
}

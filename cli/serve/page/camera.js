/** How a picture lies in a box: its scale and place, in CSS pixels. */

export const LARGEST = 16;

export class Camera {
  scale = 1;
  x = 0;
  y = 0;
  isFitted = true;
  margin = 0; // about a picture that is fitted

  constructor(change) {
    this.change = change;
    this.picture = { width: 1, height: 1 };
    this.box = { width: 1, height: 1 };
  }

  /** The scale at which all of the picture is seen; small ones are enlarged, by whole steps of four at most. */
  get fitting() {
    const { picture, box } = this;
    const room = Math.max(1, box.width - 2 * this.margin) / picture.width;
    return Math.min(room, Math.max(1, box.height - 2 * this.margin) / picture.height, 4 / devicePixelRatio);
  }

  /** The scale at which a pixel of the picture is one of the screen. */
  get actual() {
    return 1 / devicePixelRatio;
  }

  fit() {
    this.isFitted = true;
    this.scale = this.fitting;
    this.x = (this.box.width - this.picture.width * this.scale) / 2;
    this.y = (this.box.height - this.picture.height * this.scale) / 2;
    this.change();
  }

  /** Be of another picture or box; what was fitted stays so. */
  resize({ picture = this.picture, box = this.box }) {
    const centre = [(this.box.width / 2 - this.x) / (this.picture.width * this.scale), (this.box.height / 2 - this.y) / (this.picture.height * this.scale)];
    Object.assign(this, { picture, box });
    if (this.isFitted) return this.fit();
    this.x = box.width / 2 - centre[0] * picture.width * this.scale;
    this.y = box.height / 2 - centre[1] * picture.height * this.scale;
    this.pan(0, 0);
  }

  /** Go to a scale, with a place of the box where it is. */
  zoom(scale, x = this.box.width / 2, y = this.box.height / 2) {
    const least = Math.min(this.fitting, this.actual);
    const next = Math.min(LARGEST / devicePixelRatio, Math.max(least, scale));
    this.x = x - ((x - this.x) * next) / this.scale;
    this.y = y - ((y - this.y) * next) / this.scale;
    this.scale = next;
    this.isFitted = false;
    this.pan(0, 0);
  }

  /** Move the picture, of which some always stays in the box. */
  pan(dx, dy) {
    const hold = (at, size, room) => (size <= room ? (room - size) / 2 : Math.min(0, Math.max(room - size, at)));
    this.x = hold(this.x + dx, this.picture.width * this.scale, this.box.width);
    this.y = hold(this.y + dy, this.picture.height * this.scale, this.box.height);
    this.change();
  }
}

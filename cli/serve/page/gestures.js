/** Wheel, drag and pinch move a camera. */

/** Have gestures on an element move a camera. */
export function bindGestures(surface, camera) {
  const fingers = new Map();
  const place = (event) => {
    const box = surface.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  surface.addEventListener("wheel", (event) => {
    event.preventDefault();
    const { x, y } = place(event);
    const lines = event.deltaMode === 1 ? 16 : 1;
    camera.zoom(camera.scale * Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.002)), x, y);
  }, { passive: false });
  surface.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    surface.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, place(event));
  });
  surface.addEventListener("pointermove", (event) => {
    const was = fingers.get(event.pointerId);
    if (!was) return;
    const is = place(event);
    if (fingers.size === 1) camera.pan(is.x - was.x, is.y - was.y);
    else {
      const [other] = [...fingers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
      const far = (at) => Math.hypot(at.x - other.x, at.y - other.y);
      camera.zoom((camera.scale * far(is)) / Math.max(1, far(was)), other.x, other.y);
    }
    fingers.set(event.pointerId, is);
  });
  for (const type of ["pointerup", "pointercancel"]) surface.addEventListener(type, (event) => fingers.delete(event.pointerId));
  surface.addEventListener("dblclick", (event) => {
    const { x, y } = place(event);
    if (camera.isFitted) camera.zoom(Math.max(2 * camera.fitting, camera.actual), x, y);
    else camera.fit();
  });
}

const stage = document.querySelector(".stage");
const range = stage.querySelector("input");
const after = stage.querySelector(".after");
const root = document.documentElement;
const choices = [...document.querySelectorAll(".choice input")];
const rows = [...document.querySelectorAll("tbody tr")];

function slide(percent) {
  range.value = Math.min(100, Math.max(0, percent));
  stage.style.setProperty("--at", `${range.value}%`);
  const share = Math.round(range.value);
  range.setAttribute("aria-valuetext", `${share} % content, ${100 - share} % result`);
}

async function show(choice) {
  choice.checked = true;
  after.src = choice.parentElement.querySelector("img").src;
  after.alt = `result: ${choice.dataset.label}`;
  stage.querySelector(".right").textContent = choice.dataset.label;
  document.querySelector("#shown").textContent = choice.dataset.label;
  document.querySelector("#detail").textContent = choice.dataset.detail;
  rows.forEach((row, place) => row.classList.toggle("shown", choices[place] === choice));
  const box = document.querySelector(".choices"), card = choice.parentElement;
  box.scrollTo(card.offsetLeft - box.offsetLeft, card.offsetTop - box.offsetTop);
  await after.decode();
  root.dataset.shown = `${choice.value} ${after.naturalWidth}x${after.naturalHeight}`;
}

function named() {
  const hash = location.hash.slice(1);
  return choices.find((choice) => [choice.value, encodeURIComponent(choice.value)].includes(hash));
}

function follow(event) {
  const box = stage.getBoundingClientRect();
  slide(((event.clientX - box.left) / box.width) * 100);
}

stage.addEventListener("pointerdown", (event) => {
  event.preventDefault();
  stage.setPointerCapture(event.pointerId);
  range.focus({ preventScroll: true });
  follow(event);
});
stage.addEventListener("pointermove", (event) => {
  if (stage.hasPointerCapture(event.pointerId)) follow(event);
});
range.addEventListener("input", () => slide(range.value));
for (const choice of choices) {
  choice.addEventListener("change", () => {
    try { history.replaceState(null, "", `#${encodeURIComponent(choice.value)}`); } catch {}
    show(choice);
  });
}
addEventListener("hashchange", () => named() && show(named()));
slide(50);
show(named() ?? choices[0]).then(() => { root.dataset.ready = `${choices.length} runs`; });

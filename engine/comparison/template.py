"""The HTML, style and script of a comparison's page; `nstx.engine.comparison.page` fills it in."""

_STYLE = """
:root {
  color-scheme: light dark;
  --paper: #faf9f7; --card: #fff; --ink: #1c1b19; --faint: #66625b; --line: #dedad3;
  --accent: #1f5fbf; --on-accent: #fff;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #151517; --card: #1f1f22; --ink: #ecebe8; --faint: #a5a19a; --line: #38383d;
    --accent: #8ab8ff; --on-accent: #10203a;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
header, main, footer { max-width: 82rem; margin: 0 auto; padding: 0 clamp(1rem, 4vw, 2.5rem); }
header { padding-top: 1.75rem; }
h1 { font-size: clamp(1.35rem, 1rem + 2vw, 2rem); line-height: 1.2; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .75rem; }
header p, footer, .note { color: var(--faint); }
header p { margin: .35rem 0 1.25rem; }
.compare { display: grid; gap: 1.25rem; }
.stage {
  position: relative; width: min(100%, calc(78vh * var(--ratio))); margin: 0 auto; overflow: hidden;
  aspect-ratio: var(--ratio); border-radius: .6rem; background: var(--line);
  touch-action: pan-y; cursor: ew-resize; user-select: none;
}
.stage img { position: absolute; inset: 0; width: 100%; height: 100%; pointer-events: none; }
.stage .before { clip-path: inset(0 calc(100% - var(--at)) 0 0); }
.stage input { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; pointer-events: none; }
.stage:has(input:focus-visible) { outline: 3px solid var(--accent); outline-offset: 3px; }
.handle {
  position: absolute; top: 0; bottom: 0; left: var(--at); width: 2px; margin-left: -1px;
  background: #fff; box-shadow: 0 0 4px #0009; pointer-events: none;
}
.handle::after {
  content: "\\2039\\2002\\203a"; position: absolute; top: 50%; left: 50%; translate: -50% -50%;
  width: 2.75rem; height: 2.75rem; border-radius: 50%; background: #fff; color: #1c1b19;
  display: grid; place-items: center; font-size: 1.3rem; line-height: 1; padding-bottom: .2rem;
  box-shadow: 0 1px 6px #0008;
}
.tag {
  position: absolute; bottom: .6rem; max-width: 45%; padding: .15rem .6rem; border-radius: 1rem;
  background: #000a; color: #fff; font-size: .85rem; pointer-events: none;
  overflow: hidden; text-overflow: ellipsis; white-space: nowrap;
}
.tag.left { left: .6rem; } .tag.right { right: .6rem; }
figure { margin: 0; min-width: 0; }
figcaption { margin-top: .6rem; text-align: center; }
figcaption span { color: var(--faint); }
fieldset { border: 0; margin: 0; padding: 0; min-width: 0; }
legend { padding: 0; margin-bottom: .5rem; font-weight: 600; }
.choices { display: flex; gap: .75rem; overflow-x: auto; padding: 5px; margin: -5px; }
.choice {
  flex: 0 0 9.5rem; display: grid; grid-template-rows: auto auto 1fr; padding: .5rem; cursor: pointer;
  background: var(--card); border: 1px solid var(--line); border-radius: .6rem; position: relative;
}
.choice img { width: 100%; border-radius: .35rem; display: block; }
.choice .name { font-weight: 600; font-size: .92rem; margin-top: .4rem; overflow-wrap: anywhere; }
.choice .detail { color: var(--faint); font-size: .8rem; }
.choice input { position: absolute; opacity: 0; }
.choice:has(:checked) { border-color: var(--accent); box-shadow: 0 0 0 2px var(--accent); }
.choice:has(:focus-visible) { outline: 3px solid var(--accent); outline-offset: 4px; }
.scroll { overflow-x: auto; border-radius: .6rem; border: 1px solid var(--line); }
.scroll:focus-visible { outline: 3px solid var(--accent); outline-offset: 3px; }
table { border-collapse: collapse; width: 100%; background: var(--card); font-variant-numeric: tabular-nums; }
th, td { padding: .5rem .9rem; text-align: right; white-space: nowrap; }
th:first-child { text-align: left; }
tbody tr { border-top: 1px solid var(--line); }
tbody th { font-weight: 500; }
tbody tr.shown { background: color-mix(in srgb, var(--accent) 14%, transparent); }
thead { color: var(--faint); font-size: .88rem; }
.sheet img { display: block; width: 100%; min-width: 40rem; height: auto; }
footer { padding-top: 1.5rem; padding-bottom: 2rem; font-size: .88rem; }
@media (min-width: 60rem) {
  .compare { grid-template-columns: minmax(0, 1fr) 15rem; }
  /* As tall as the stage beside it, however many runs there are. */
  fieldset { height: 0; min-height: max(100%, 20rem); display: flex; flex-direction: column; }
  .choices { flex: 1; flex-direction: column; overflow: hidden auto; min-height: 0; }
  .choice { flex: 0 0 auto; }
}
"""

_SCRIPT = """
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
"""

_BODY = """
<header>
<h1>{{title}}</h1>
<p>{{subtitle}}</p>
</header>
<main>
<section class="compare" aria-label="Content and result">
<figure>
<div class="stage" style="--ratio: calc({{width}} / {{height}}); --at: 50%">
<img class="after" alt="">
<img class="before" src="{{content}}" alt="the content">
<span class="handle"></span>
<span class="tag left">content</span><span class="tag right"></span>
<input type="range" min="0" max="100" step="1" value="50" aria-label="How much of the content is shown, from the left">
</div>
<figcaption aria-live="polite"><strong id="shown"></strong> <span id="detail"></span></figcaption>
<noscript><p class="note">The slider needs JavaScript; the sheet below does not.</p></noscript>
</figure>
<fieldset>
<legend>Run</legend>
<div class="choices">
{{choices}}
</div>
</fieldset>
</section>
<section aria-labelledby="costs">
<h2 id="costs">Costs</h2>
<div class="scroll" tabindex="0" role="region" aria-labelledby="costs">
<table>
<thead><tr><th scope="col">run</th><th scope="col">cost</th><th scope="col">of the start’s</th><th scope="col">content</th><th scope="col">style</th><th scope="col">steps</th><th scope="col">seconds</th></tr></thead>
<tbody>
{{rows}}
</tbody>
</table>
</div>
<p class="note">Runs that minimise different costs cannot be ranked by them.</p>
</section>
<section aria-labelledby="all">
<h2 id="all">Side by side</h2>
<div class="scroll sheet" tabindex="0" role="region" aria-labelledby="all">
<img src="{{sheet}}" alt="contact sheet: content, style and every result, with labels">
</div>
</section>
</main>
<footer>nstx {{version}}</footer>
"""

PAGE = (
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'">
<title>{{title}}</title>
<style>"""
    + _STYLE
    + """</style>
</head>
<body>"""
    + _BODY
    + """<script type="module">"""
    + _SCRIPT
    + """</script>
</body>
</html>
"""
)
"""Names in doubled braces are to be filled in; those of pictures with data URIs."""

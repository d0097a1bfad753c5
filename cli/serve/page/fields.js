/** The controls, as data: what each is called, what it does, and which values it takes. */

const cards = (folder, items) =>
  items.map(([value, label, text]) => ({ value, label, text, picture: `/page/looks/${folder[value] ?? value}.jpg` }));

export const PRESET = {
  name: "preset",
  kind: "cards",
  label: "Look",
  text: "Where the picture starts from; all below changes it.",
  items: cards({}, [
    ["default", "Default", "Photograph and painting in balance"],
    ["bold", "Bold", "More of the painting, crisp strokes"],
    ["fine", "Fine", "More of the photograph, thin strokes"],
    ["gatys", "Gatys", "As published in 2016; slower"],
    ["coursera", "Coursera", "The course's assignment, by Adam"],
    ["coursera-tf2", "Coursera TF2", "Its present edition, square; slow"],
  ]),
};

export const MAIN = [
  { name: "size", kind: "sizes", label: "Size", unit: "pixels", text: "Of the longer side. Twice as large takes four times as long.",
    items: [256, 512, 768, 1024] },
  { name: "style_weight", kind: "scale", label: "Style weight", text: "How much the painting counts beside the photograph.",
    around: 20, ends: ["weight-low", "weight-high"], words: ["Photograph", "Painting"] },
  { name: "style_scale", kind: "scale", label: "Stroke size", text: "How large the painting's strokes are drawn.",
    min: 0.25, max: 4, ends: ["strokes-low", "strokes-high"], words: ["Small", "Large"] },
  { name: "laplacian_weight", kind: "scale", label: "Keep detail", text: "Holds the photograph's edges and faces in place. 0 leaves them free.",
    min: 1e-6, max: 1e-3, zero: true, ends: ["default", "detail-high"], words: ["Off", "Strong"] },
  { name: "colors", kind: "cards", label: "Colours", text: "Where the colours come from.",
    items: cards({ style: "default" }, [
      ["style", "Painting's", "Its colours and strokes"],
      ["luminance", "Photograph's", "Its hues; strokes in light and shade"],
      ["matched", "Matched", "The painting, in the photograph's colours"],
      ["histogram", "Histogram", "Each colour as often as in the photograph"],
      ["only", "Colours only", "No strokes; done at once"],
    ]) },
  { name: "steps", kind: "scale", label: "Steps", text: "More are better and slower; most is done after a hundred.", min: 10, max: 1000, whole: true, words: ["Quick", "Thorough"] },
  { name: "format", kind: "choice", label: "Format", text: "PNG keeps every pixel as it is; JPEG is smallest.",
    items: [["png", "PNG"], ["jpg", "JPEG"], ["webp", "WebP"], ["avif", "AVIF"], ["tiff", "TIFF"]] },
];

export const MORE = [
  { title: "Start and way", fields: [
    { name: "init", kind: "choice", label: "Start", text: "The first picture: the photograph, it in the painting's colours, or noise.",
      items: [["content", "Photograph"], ["matched", "Recoloured"], ["noisy", "With noise"], ["blend", "Mostly noise"], ["noise", "Noise"]] },
    { name: "seed", kind: "number", label: "Seed", text: "Another number is other noise.", fallback: 0, whole: true },
    { name: "solver", kind: "choice", label: "Solver", text: "How pixels are changed from step to step.", items: [["lbfgs", "L-BFGS"], ["adam", "Adam"]] },
    { name: "learning_rate", kind: "number", label: "Learning rate", text: "Of Adam, in levels of 255." },
    { name: "scales", kind: "number", label: "Scales", text: "From coarse to fine; empty chooses by the size.", whole: true },
    { name: "early_stop", kind: "flag", label: "Stop early", text: "End a scale when nothing improves." },
    { name: "clip", kind: "flag", label: "Keep within 0–255", text: "While pixels are changed." },
    { name: "clean", kind: "flag", label: "Clean", text: "Take ripples out of flat areas." },
  ] },
  { title: "Cost", fields: [
    { name: "content_weight", kind: "number", label: "Content weight", text: "How much the photograph counts." },
    { name: "tv_weight", kind: "number", label: "Smoothness", text: "Weight of the total variation." },
    { name: "style_statistic", kind: "choice", label: "Statistic", text: "What of the painting is compared.", fallback: "gram",
      items: [["gram", "Gram matrix"], ["covariance", "Covariance"], ["mean-std", "Mean and deviation"], ["wasserstein", "Wasserstein"]] },
    { name: "content_layers", kind: "text", label: "Content layers", text: "Such as conv4_2, or conv2_2:0.5,conv4_2.", example: "as the look has it" },
    { name: "style_layers", kind: "text", label: "Style layers", text: "Such as conv1_1:0.5,conv3_1:0.5.", example: "as the look has it" },
    { name: "pooling", kind: "choice", label: "Pooling", text: "Maximum makes crisper strokes.", items: [["avg", "Average"], ["max", "Maximum"]] },
  ] },
  { title: "Picture", fields: [
    { name: "width", kind: "number", label: "Width", text: "In pixels, in place of the size.", whole: true },
    { name: "height", kind: "number", label: "Height", text: "In pixels; with the width, exactly so.", whole: true },
    { name: "stretch", kind: "flag", label: "Stretch", text: "To that size, whatever the proportions." },
    { name: "depth", kind: "choice", label: "Bits a channel", text: "16 needs PNG or TIFF.", fallback: "", items: [["", "As the photograph"], ["8", "8"], ["16", "16"]], whole: true },
    { name: "keep_profile", kind: "flag", label: "Keep colour profile", text: "Save in the photograph's own colours.", fallback: false },
    { name: "manifest", kind: "flag", label: "Note how it was made", text: "Settings and checksums, within the file.", fallback: true },
    { name: "mask", kind: "flag", label: "Mask by transparency", text: "Paint where the photograph is opaque.", fallback: false, on: "alpha" },
  ] },
];

/** All controls in one list. */
export const FIELDS = [PRESET, ...MAIN, ...MORE.flatMap((group) => group.fields)];

const NAMES = Object.fromEntries(FIELDS.map((field) => [field.name, field]));

/** How an option is called on the page, and its value. */
export function describeOption(name, value) {
  const field = NAMES[name];
  const item = field?.items?.map((entry) => (Array.isArray(entry) ? entry : [entry.value, entry.label])).find(([key]) => key === value);
  const shown = typeof value === "boolean" ? (value ? "yes" : "no") : (item?.[1] ?? String(value));
  return [field?.label ?? name, shown];
}

// The page sends POST /photo once for each photograph, and POST /explain whenever the user chooses a class or a rule. A newer
// question ends an older one, here and on the server. Nothing comes from other machines.

const $ = (id) => document.getElementById(id);
const REASONS = { bias: "bias", eps: "ε", zero_denominator: "zero denominator", padding: "padding" };
const AMOUNTS = ["arriving", "passed", ...Object.keys(REASONS)];
const WAIT = 30; // ms: a slider that still moves is not asked about
const LISTED = 6; // classes shown without a search
const CLOSEST = 16; // the largest zoom
const WORDS = {
  relevance: "Relevance says how much a pixel or a neuron contributed to the score of the class: above 0 it speaks for the class, below 0 against it.",
  logit: "A logit is the score that the network computes for a class, before it becomes a probability: the larger, the surer the network is.",
  rule: "A rule says how a layer divides the relevance of its outputs among its inputs.",
  alpha: "α is the weight of the positive contributions; the negative contributions get the weight β = 1 − α.",
  flat: "♭ (flat) divides the relevance of an output evenly among its inputs, whatever their values are.",
  eps: "ε is a small number that is added to the denominator; it absorbs the relevance of outputs that are close to 0.",
  gamma: "γ gives the positive contributions extra weight: the larger γ is, the less the negative ones count.",
  ledger: "The ledger shows for each layer how much relevance arrives, how much is passed on, and where the rest goes.",
  bias: "The bias of a layer is part of its output, so it absorbs a part of the relevance.",
  zero_denominator: "Where the denominator is 0, no input can get the relevance.",
  padding: "A window of a convolution that sees only padding has no input that can get the relevance.",
};
const token = document.querySelector("meta[name=token]").content;
const page = crypto.randomUUID();
const dark = matchMedia("(prefers-color-scheme: dark)");
const known = new Map(); // the choices of each model, by its name

let model; // its name
let choices; // what the server offers for it
let photo; // { blob, name, file, example, outputs, picture }
let held; // { blob, model }: the photograph that the server has in memory, and the model that saw it
let sending; // the photograph that is on its way
let answer; // to the last question: pictures, ledger, and all that is needed to ask it again
let asked = { target: 0, groups: {}, flat: 0, layers: {} };
let current; // AbortController of the request on its way
let waiting;
let kept = []; // answers

// ---- small things

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function number(value, digits = 4) {
  if (value === 0) return "·";
  const size = Math.abs(value);
  let text = size < 10 ** digits ? value.toPrecision(digits) : value.toFixed(0);
  if (size < 1e-4 || size >= 1e6) text = value.toExponential(2);
  return text.replace(/^-/, "−").replace("e-", "e−").replace("e+", "e");
}

// As the user would type it; numbers below a thousandth in powers of ten.
function typed(value) {
  return value !== 0 && Math.abs(value) < 1e-3 ? value.toExponential() : String(value);
}

function size(bytes) {
  return `${(bytes / 2 ** 20).toFixed(0)} MB`;
}

// "z_ij" with its indices as subscripts.
function formula(text) {
  return text.split(/_(ij|i|j)/).map((part, k) => (k % 2 ? element("sub", { textContent: part }) : part));
}

// A word that is explained when the mouse or the focus is on it.
function word(name, text) {
  return explained(element("span", { textContent: text }), name);
}

function explained(made, name) {
  made.dataset.word = name;
  made.tabIndex = 0;
  made.setAttribute("aria-describedby", `word-${name}`);
  return made;
}

async function bitmap(base64) {
  return createImageBitmap(new Blob([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))]));
}

// The header that names a model.
function about(name) {
  return { "X-Model": encodeURIComponent(name) };
}

async function post(path, body, of, signal) {
  const type = path === "/photo" ? "application/octet-stream" : "application/json";
  const headers = { "Content-Type": type, "X-Token": token, "X-Page": page, ...about(of) };
  const response = await fetch(path, { method: "POST", body, signal, headers });
  if (!response.ok) throw Object.assign(new Error((await response.json()).error), { status: response.status });
  return path === "/numbers" ? response.blob() : response.json();
}

// One request at a time: the newest. An error is shown on the picture.
async function only(work) {
  current?.abort();
  clearTimeout(waiting);
  const mine = (current = new AbortController());
  $("figure").setAttribute("aria-busy", "true");
  try {
    await work(mine.signal);
    if (mine === current) $("error").hidden = true;
  } catch (error) {
    if (mine !== current) return;
    $("status").textContent = "";
    fail(error instanceof TypeError ? "lrp serve does not answer. Is it still running?" : error.message);
  } finally {
    if (mine === current) $("figure").setAttribute("aria-busy", "false");
  }
}

function fail(message) {
  $("error").textContent = message;
  $("error").hidden = false;
}

// ---- the photograph

function take(blob, name, example = null) {
  if (!blob) return;
  const taken = (sending = { blob, name, file: name, example });
  only(async (signal) => {
    try {
      await look(taken, signal);
    } finally {
      if (sending === taken) sending = undefined;
    }
    await explain(signal);
  });
}

// Send a photograph to the model, and choose the class with the largest output.
async function look(taken, signal) {
  $("status").textContent = `${taken.name}: the network looks at it …`;
  photo = await send(taken, model, signal);
  asked.target = photo.outputs.indexOf(Math.max(...photo.outputs));
  $("empty").hidden = true;
  $("search").value = "";
  listClasses();
}

async function send(taken, of, signal) {
  if (taken.blob.size > choices.largest) {
    throw new Error(`${taken.name}: the file has ${size(taken.blob.size)}; the limit is ${size(choices.largest)}`);
  }
  const said = await post("/photo", taken.blob, of, signal);
  held = { blob: taken.blob, model: of };
  const picture = await bitmap(said.photo);
  signal.throwIfAborted();
  return { ...taken, picture, outputs: said.outputs };
}

// ---- the model

async function choicesOf(name, signal) {
  if (!known.has(name)) {
    const response = await fetch("/choices", { headers: about(name), signal });
    const said = await response.json();
    if (!response.ok) throw new Error(said.error);
    known.set(name, said);
  }
  return known.get(name);
}

async function exampleOf(name, signal) {
  const found = await choicesOf(name, signal);
  if (!found.example) return undefined;
  const blob = await (await fetch("/example", { headers: about(name), signal })).blob();
  return { blob, name: found.example, file: found.example, example: name };
}

// All controls for another model.
function useModel(name, found) {
  const preset = choices?.presets.find(isChosen)?.name ?? found.usual;
  [model, choices] = [name, found];
  $("model").value = name;
  $("summary").textContent = choices.summary;
  $("search").placeholder = `search all ${choices.classes.length} classes`;
  $("search").setAttribute("aria-label", $("search").placeholder);
  makeGroups();
  makeLayers();
  const named = (wanted) => choices.presets.find((one) => one.name === wanted);
  takePreset(named(preset) ?? named(choices.usual) ?? choices.presets[0]);
}

// The photograph stays, unless it is the example of the last model.
function changeModel() {
  const name = $("model").value, last = model;
  only(async (signal) => {
    try {
      $("status").textContent = `${name}: the model is loaded …`;
      const found = await choicesOf(name, signal);
      const mine = !photo || photo.example ? await exampleOf(name, signal) : undefined;
      signal.throwIfAborted();
      useModel(name, found);
      if (mine ?? photo) await look(mine ?? photo, signal);
    } finally {
      $("model").value = model ?? last;
    }
    if (photo) await explain(signal);
  });
}

// ---- the question

function ask() {
  clearTimeout(waiting);
  describe();
  if (photo && !sending) waiting = setTimeout(() => only(explain), WAIT); // else it is asked once the photograph is there
}

// The answer to a question about a photograph, which is sent first if the server does not have it.
async function request(path, { question, photo: about, model: of }, signal) {
  const has = held && held.blob === about.blob && held.model === of;
  if (!has) await send(about, of, signal);
  try {
    return await post(path, question, of, signal);
  } catch (error) {
    if (error.status !== 410) throw error; // the server has freed it for other pages
    await send(about, of, signal);
    return post(path, question, of, signal);
  }
}

async function explain(signal) {
  const colours = dark.matches ? "night" : "day";
  const file = photo.example === model ? null : photo.file;
  const mine = {
    photo, model, colours, asked: structuredClone(asked), by: title(),
    name: choices.classes[asked.target], output: photo.outputs[asked.target],
    question: JSON.stringify({ ...asked, colours, photo: file }),
  };
  const said = await request("/explain", mine, signal);
  const [overlay, heatmap] = await Promise.all([bitmap(said.overlay), bitmap(said.heatmap)]);
  signal.throwIfAborted();
  show({ ...mine, ...said, overlay, heatmap });
  const came = `${number(said.ledger.end)} of ${number(said.ledger.start)} came to the pixels`;
  $("status").textContent = `${mine.name}: ${came}, in ${said.seconds.toFixed(2)} s`;
}

function show(shown) {
  answer = shown;
  draw();
  fillLedger();
  fillRecipe();
  for (const id of ["keep", "save-picture", "save-numbers"]) $(id).disabled = false;
  offerCompare();
}

// The name of the chosen rules: of the preset, or group by group; then those of single layers.
function title() {
  const symbols = Object.fromEntries(choices.layers.map((layer) => [layer.name, layer.rules]));
  const preset = choices.presets.find(isChosen);
  const own = Object.entries(asked.layers).filter(([name]) => !preset?.layers[name]);
  const single = own.map(([name, { rule }]) => `${name} ${symbols[name][rule]}`);
  if (preset) return [preset.name, ...single].join(", ");
  const told = choices.groups.filter(({ name }) => name !== "pooling" || asked.groups[name].rule !== "z");
  const parts = told.map((group) => {
    const spec = asked.groups[group.name];
    const key = parameterOf(spec);
    const value = key ? ` ${choices.parameters[key].symbol} = ${typed(spec[key])}` : "";
    return `${group.title.toLowerCase()} ${group.rules[spec.rule]}${value}`;
  });
  if (asked.flat) parts.push(`♭ in the first ${asked.flat}`);
  return [...parts, ...single].join(", ");
}

function isChosen(preset) {
  const same = (a, b) => [...Object.keys(a), ...Object.keys(b)].every((key) => a[key] === b[key]);
  const groups = choices.groups.every(({ name }) => same(preset.groups[name], asked.groups[name]));
  const layers = Object.keys(preset.layers).every((name) => asked.layers[name] && same(preset.layers[name], asked.layers[name]));
  return groups && layers && preset.flat === asked.flat;
}

// ---- the picture

function draw() {
  const view = document.querySelector("[name=view]:checked").value;
  const { width, height } = answer.photo.picture;
  const colours = answer.colours === "night" ? "yellow and orange speak for it, blue against" : "red speaks for it, blue against";
  const what = {
    overlay: `Relevance for ${answer.name} over the photograph: ${colours}`,
    heatmap: `Relevance for ${answer.name}: ${colours}`,
    photo: `The photograph: ${answer.photo.name}`,
  };
  paint($("picture"), view === "photo" ? answer.photo.picture : answer[view], width, height, view === "heatmap");
  paint($("photograph"), answer.photo.picture, width, height);
  $("picture").setAttribute("aria-label", what[view]);
  $("compare").disabled = view === "photo";
  slide();
  $("caption").replaceChildren(element("b", { textContent: answer.name }), ` ${number(answer.output)} · ${answer.by}`);
  $("caption").title = `${answer.name} ${number(answer.output)} · ${answer.by}`;
  drawScale();
}

function paint(canvas, picture, width, height, sharp = false) {
  Object.assign(canvas, { width, height });
  canvas.classList.toggle("small", width < 200 || sharp);
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false; // every pixel of the heatmap shows
  context.drawImage(picture, 0, 0, width, height);
}

function drawScale() {
  const stops = choices.colours[dark.matches ? "night" : "day"];
  const context = $("scale").getContext("2d"), { width } = $("scale");
  const gradient = context.createLinearGradient(0, 0, width, 0);
  stops.forEach((rgb, k) => gradient.addColorStop(k / (stops.length - 1), `rgb(${rgb.join()})`));
  context.fillStyle = gradient;
  context.fillRect(0, 0, width, 1);
}

// ---- before and after

function slide() {
  const part = Number($("compare").value), hidden = !answer || $("compare").disabled;
  $("before").hidden = $("divider").hidden = hidden;
  $("before").style.clipPath = `inset(0 ${100 - part}% 0 0)`;
  $("divider").classList.toggle("rest", part === 0);
  $("divider").style.left = `clamp(0.9rem, ${part}%, calc(100% - 0.9rem))`;
  $("compare").setAttribute("aria-valuetext", `photograph on the left: ${part} %`);
}

function listenToSlider() {
  $("compare").oninput = slide;
  const divider = $("divider");
  divider.onpointerdown = (event) => {
    divider.setPointerCapture(event.pointerId);
    event.stopPropagation();
  };
  divider.onpointermove = (event) => {
    if (!divider.hasPointerCapture(event.pointerId)) return;
    const { left, width } = $("stage").getBoundingClientRect();
    $("compare").value = Math.round((100 * (event.clientX - left)) / width);
    slide();
  };
}

// ---- zoom

const seen = { zoom: 1, x: 0, y: 0 };

// Zoom to `zoom`; the point (x, y) of the stage stays where it is.
function zoomTo(zoom, x = $("stage").clientWidth / 2, y = $("stage").clientHeight / 2) {
  const next = Math.min(CLOSEST, Math.max(1, zoom)), factor = next / seen.zoom;
  seen.zoom = next;
  moveTo(x - factor * (x - seen.x), y - factor * (y - seen.y));
}

// Move the picture, but never out of the stage.
function moveTo(x, y) {
  const { clientWidth, clientHeight } = $("stage");
  seen.x = Math.min(0, Math.max(clientWidth * (1 - seen.zoom), x));
  seen.y = Math.min(0, Math.max(clientHeight * (1 - seen.zoom), y));
  for (const layer of $("stage").querySelectorAll(".layer")) {
    layer.style.transform = `translate(${seen.x}px, ${seen.y}px) scale(${seen.zoom})`;
  }
  $("stage").classList.toggle("zoomed", seen.zoom > 1);
  $("zoomed").textContent = `${Math.round(100 * seen.zoom)} %`;
  $("zoom-out").disabled = $("zoom-fit").disabled = seen.zoom === 1;
  $("zoom-in").disabled = seen.zoom === CLOSEST;
}

function listenToStage() {
  const stage = $("stage"), pointers = new Map();
  const at = ({ clientX, clientY }) => {
    const { left, top } = stage.getBoundingClientRect();
    return [clientX - left, clientY - top];
  };
  stage.addEventListener("wheel", (event) => {
    const out = event.deltaY > 0 && seen.zoom === 1;
    if (out || !event.deltaY) return; // nothing to zoom out of: the page scrolls
    event.preventDefault();
    const pixels = event.deltaMode ? 30 * event.deltaY : event.deltaY;
    zoomTo(seen.zoom * Math.exp(-pixels * (event.ctrlKey ? 0.01 : 0.002)), ...at(event));
  }, { passive: false });

  const apart = () => {
    const [a, b] = [...pointers.values()];
    return { size: Math.hypot(a[0] - b[0], a[1] - b[1]), x: (a[0] + b[0]) / 2, y: (a[1] + b[1]) / 2 };
  };
  stage.onpointerdown = (event) => {
    if (event.target.closest("button, output")) return;
    pointers.set(event.pointerId, at(event));
    if (seen.zoom > 1 || pointers.size > 1) stage.setPointerCapture(event.pointerId);
    stage.classList.toggle("moving", seen.zoom > 1);
  };
  stage.onpointermove = (event) => {
    const last = pointers.get(event.pointerId);
    if (!last) return;
    const now = at(event);
    if (pointers.size === 1) {
      moveTo(seen.x + now[0] - last[0], seen.y + now[1] - last[1]);
      pointers.set(event.pointerId, now);
      return;
    }
    const before = apart();
    pointers.set(event.pointerId, now);
    const after = apart();
    if (before.size && after.size) zoomTo((seen.zoom * after.size) / before.size, after.x, after.y);
    moveTo(seen.x + after.x - before.x, seen.y + after.y - before.y);
  };
  stage.onpointerup = stage.onpointercancel = stage.onpointerleave = (event) => {
    pointers.delete(event.pointerId);
    stage.classList.remove("moving");
  };
  stage.onkeydown = (event) => {
    if (event.target !== stage || event.ctrlKey || event.metaKey || event.altKey) return;
    const arrows = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    const step = 0.1 * stage.clientWidth;
    if (event.key === "+" || event.key === "=") zoomTo(1.5 * seen.zoom);
    else if (event.key === "-") zoomTo(seen.zoom / 1.5);
    else if (event.key === "0") zoomTo(1);
    else if (event.key in arrows && seen.zoom > 1) moveTo(seen.x + step * arrows[event.key][0], seen.y + step * arrows[event.key][1]);
    else return;
    event.preventDefault();
  };
  $("zoom-in").onclick = () => zoomTo(1.5 * seen.zoom);
  $("zoom-out").onclick = () => zoomTo(seen.zoom / 1.5);
  $("zoom-fit").onclick = () => zoomTo(1);
  addEventListener("resize", () => moveTo(seen.x, seen.y));
  moveTo(0, 0);
}

// ---- kept to compare

function keep() {
  if (!kept.includes(answer)) kept.push(answer);
  listKept();
  $("status").textContent = `${words(answer)}: kept`;
}

function words({ name, by }) {
  return `${name}: ${by}`;
}

function listKept() {
  $("kept").replaceChildren(...kept.map((one) => {
    const away = element("button", { type: "button", className: "away", textContent: "×", title: "Remove" });
    away.setAttribute("aria-label", `Remove ${words(one)}`);
    away.onclick = () => {
      kept = kept.filter((other) => other !== one);
      listKept();
      $("keep").focus();
    };
    return element("figure", {}, restorer(one), element("figcaption", {}, words(one), away));
  }));
  $("kept").hidden = !kept.length;
  offerCompare();
}

// A picture that brings its result back when it is clicked.
function restorer(one, done = () => {}) {
  const canvas = element("canvas"), { width, height } = one.photo.picture;
  paint(canvas, one.overlay, width, height);
  const button = element("button", { type: "button", className: "restore", title: "Go back to this result" }, canvas);
  button.setAttribute("aria-label", `Go back to ${words(one)}, ${one.photo.name}, ${one.model}`);
  button.onclick = () => {
    done();
    restore(one);
  };
  return button;
}

function restore(one) {
  current?.abort();
  clearTimeout(waiting);
  sending = current = undefined;
  if (one.model !== model) useModel(one.model, known.get(one.model));
  photo = one.photo;
  asked = structuredClone(one.asked);
  $("search").value = "";
  $("error").hidden = true;
  $("figure").setAttribute("aria-busy", "false");
  listClasses();
  describe();
  show(one);
  $("status").textContent = `${words(one)}: shown again`;
  if (one.colours !== (dark.matches ? "night" : "day")) ask();
}

// What is compared: all that is kept, and what is shown now.
function compared() {
  return answer && !kept.includes(answer) ? [...kept, answer] : kept;
}

function offerCompare() {
  $("open-compare").disabled = !kept.length || compared().length < 2;
}

function compare() {
  $("side-figures").replaceChildren(...compared().map((one) => {
    const said = [` ${number(one.output)} · ${one.by}`, element("br"), `${one.model}, ${one.photo.name}`];
    if (!kept.includes(one)) said.push(" (shown now)");
    const caption = element("figcaption", {}, element("b", { textContent: one.name }), ...said);
    return element("figure", {}, restorer(one, () => $("side").close()), caption);
  }));
  $("side").showModal();
}

// ---- to take with you

function save(blob, name) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  $("status").textContent = `${name}: saved where your browser puts downloads`;
}

// "photo-class-lrp", with letters that every file system takes.
function stem() {
  const photograph = answer.photo.name.replace(/\.[^.]*$/, "");
  return `${photograph}-${answer.name}-lrp`.replace(/[^\p{L}\p{N}_-]+/gu, "_").slice(0, 120);
}

function saveNumbers() {
  const mine = answer, name = `${stem()}.npz`;
  only(async (signal) => save(await request("/numbers", mine, signal), name));
}

function fillRecipe() {
  const { command, code, photo: about } = answer;
  const own = about.example === answer.model;
  $("where").textContent = own ? "The photograph comes with the model." : `Run it in the folder of ${about.file}.`;
  for (const id of ["command", "copy-command"]) $(id).hidden = !command;
  $("no-command").hidden = Boolean(command);
  $("command").textContent = command ?? "";
  $("code").textContent = code;
}

async function copy(button, from) {
  try {
    await navigator.clipboard.writeText($(from).textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren($(from));
    button.textContent = "Ctrl-C";
    $("status").textContent = "The text is selected: press Ctrl-C to copy it.";
  }
  setTimeout(() => (button.textContent = "Copy"), 2000);
}

// ---- words

// A hidden sentence for each word, for screen readers, and one box that shows it.
function explainWords() {
  $("words").replaceChildren(...Object.entries(WORDS).map(([name, textContent]) => element("p", { id: `word-${name}`, textContent })));
  for (const made of document.querySelectorAll("[data-word]")) explained(made, made.dataset.word);
  const tip = $("tip");
  let owner;
  const place = () => {
    if (tip.hidden) return;
    const box = owner.getBoundingClientRect(), { offsetWidth, offsetHeight } = tip;
    const above = box.top - offsetHeight - 6;
    tip.style.left = `${Math.max(8, Math.min(box.left, document.documentElement.clientWidth - offsetWidth - 8))}px`;
    tip.style.top = `${above >= 8 ? above : box.bottom + 6}px`;
  };
  const open = (event) => {
    const found = event.target.closest?.("[data-word]");
    if (!found) return;
    owner = found;
    tip.textContent = WORDS[found.dataset.word];
    tip.hidden = false;
    place();
  };
  const close = (event) => {
    const to = event?.relatedTarget;
    if (to && (tip.contains(to) || owner?.contains(to))) return;
    tip.hidden = true;
  };
  document.addEventListener("mouseover", open);
  document.addEventListener("focusin", open);
  document.addEventListener("mouseout", (event) => (event.target === owner || event.target === tip) && close(event));
  document.addEventListener("focusout", close);
  document.addEventListener("keydown", (event) => event.key === "Escape" && close());
  addEventListener("scroll", place, true);
}

// ---- classes

function listClasses() {
  const sought = $("search").value.trim().toLowerCase();
  const order = [...choices.classes.keys()].sort((a, b) => photo.outputs[b] - photo.outputs[a]);
  const found = order.filter((k) => choices.classes[k].toLowerCase().includes(sought));
  const listed = found.slice(0, sought ? 4 * LISTED : LISTED);
  if (!sought && !listed.includes(asked.target)) listed.push(asked.target);
  $("classes").replaceChildren(...listed.map((k) => {
    const input = element("input", { type: "radio", name: "class", value: k, checked: k === asked.target });
    input.onchange = () => {
      asked.target = k;
      ask();
    };
    const output = element("output", { textContent: number(photo.outputs[k]) });
    return element("label", {}, input, element("span", { textContent: choices.classes[k] }), output);
  }));
  const rest = found.length - listed.length;
  $("more").textContent = !found.length ? "No class has this name." : rest > 0 ? `${rest} more classes: use the search` : "";
}

// ---- rules

function options(select, rules, first) {
  const all = Object.entries(rules).map(([name, symbol]) => {
    const text = first === "" || symbol === name ? symbol : `${symbol} (${name})`; // the ledger has little room
    return element("option", { value: name, textContent: text });
  });
  if (first === undefined) return select.replaceChildren(...all);
  const byHand = element("optgroup", { label: "for this layer only" }, ...all);
  select.replaceChildren(element("option", { value: "", textContent: first }), byHand);
}

function spec(name) {
  return { ...choices.rules[name] };
}

function parameterOf(chosen) {
  return Object.keys(chosen).find((key) => key in choices.parameters);
}

function makeGroups() {
  $("groups").replaceChildren(...choices.groups.map((group) => {
    const id = `group-${group.name}`;
    const select = element("select", { id });
    options(select, group.rules);
    select.onchange = () => {
      asked.groups[group.name] = spec(select.value);
      ask();
    };
    const place = element("div", { className: "slide", hidden: true });
    const label = element("label", { htmlFor: id, textContent: group.title });
    const says = element("span", { className: "formula" });
    return element("div", { className: "rule", id: `${id}-row` }, label, select, place, says);
  }));
  $("presets").replaceChildren(...choices.presets.map((preset) => {
    const button = element("button", { type: "button", textContent: preset.name });
    button.onclick = () => {
      takePreset(preset);
      ask();
    };
    return button;
  }));
  $("flat").max = choices.depth;
  $("flat-row").hidden = !choices.depth;
  $("flat").oninput = () => {
    asked.flat = Number($("flat").value);
    ask();
  };
}

function takePreset({ groups, flat, layers }) {
  asked = { ...asked, groups: structuredClone(groups), flat, layers: structuredClone(layers) };
  describe();
}

// A slider and a number for the parameter of a rule. Another rule makes new ones.
function parameter(place, group) {
  const chosen = asked.groups[group.name];
  const key = parameterOf(chosen);
  place.hidden = !key;
  if (!key) return place.replaceChildren();
  const p = choices.parameters[key];
  const to = p.log ? (value) => Math.log10(Math.max(value, p.minimum)) : (value) => value;
  const from = p.log ? (at) => Number((10 ** at).toPrecision(2)) : (at) => at;
  if (place.dataset.rule !== chosen.rule || !place.children.length) {
    place.dataset.rule = chosen.rule;
    const range = element("input", { type: "range", min: to(p.minimum), max: to(p.maximum), step: p.log ? 0.05 : 0.1 });
    const exact = element("input", { type: "number", min: p.log ? 0 : p.minimum, max: p.maximum, step: "any" });
    range.setAttribute("aria-label", `${p.symbol} of ${group.title}`);
    exact.setAttribute("aria-label", `${p.symbol} of ${group.title}, as a number`);
    range.oninput = () => set(from(Number(range.value)));
    exact.onchange = () => exact.reportValidity() && exact.value !== "" && set(Number(exact.value));
    place.replaceChildren(word(key, p.symbol), range, exact);
  }
  function set(value) {
    asked.groups[group.name][key] = value;
    ask();
  }
  const [, range, exact] = place.children;
  if (from(Number(range.value)) !== chosen[key]) range.value = to(chosen[key]);
  range.setAttribute("aria-valuetext", `${p.symbol} = ${chosen[key]}`);
  exact.value = typed(chosen[key]);
}

// All controls show what is asked.
function describe() {
  for (const group of choices.groups) {
    const row = $(`group-${group.name}-row`), chosen = asked.groups[group.name];
    row.querySelector("select").value = chosen.rule;
    const { rule, ...options } = chosen;
    delete options[parameterOf(chosen)];
    const extra = Object.entries(options).map(([key, value]) => `; ${key}: ${value}`).join("");
    row.querySelector(".formula").replaceChildren(...formula(group.formulas[rule].join("; ") + extra));
    parameter(row.querySelector(".slide"), group);
  }
  const preset = choices.presets.find(isChosen);
  const byHand = Object.keys(asked.layers).some((name) => !preset?.layers[name]);
  $("flat").value = asked.flat;
  $("flat-said").textContent = `first ${asked.flat} of ${choices.depth}`;
  $("flat").setAttribute("aria-valuetext", $("flat-said").textContent);
  [...$("presets").children].forEach((button, k) => {
    button.setAttribute("aria-pressed", !byHand && isChosen(choices.presets[k]));
  });
  for (const row of $("layers").querySelectorAll("[data-layer]")) {
    const chosen = asked.layers[row.dataset.layer];
    row.classList.toggle("by-hand", Boolean(chosen));
    row.querySelector("select").value = chosen?.rule ?? "";
    const exact = row.querySelector("input"), key = chosen && parameterOf(chosen);
    exact.hidden = !key;
    if (key) {
      const p = choices.parameters[key];
      Object.assign(exact, { min: p.log ? 0 : p.minimum, max: p.maximum, value: typed(chosen[key]), title: p.symbol });
      exact.setAttribute("aria-label", `${p.symbol} of ${row.dataset.layer}`);
    }
  }
  $("forget").hidden = !byHand;
}

// ---- the ledger

function makeLayers() {
  const rows = choices.layers.filter((layer) => layer.group).map((layer) => {
    const select = element("select");
    select.setAttribute("aria-label", `rule of ${layer.name}`);
    options(select, layer.rules, "");
    select.onchange = () => {
      delete asked.layers[layer.name];
      if (select.value) asked.layers[layer.name] = spec(select.value);
      ask();
    };
    const exact = element("input", { type: "number", step: "any", hidden: true });
    exact.onchange = () => {
      const key = parameterOf(asked.layers[layer.name]);
      if (!exact.reportValidity() || exact.value === "") return;
      asked.layers[layer.name][key] = Number(exact.value);
      ask();
    };
    const title = `${layer.type}, output ${layer.output.join("×")}`;
    const row = line(layer.name, element("td", {}, select, exact), title);
    row.dataset.layer = layer.name;
    return row;
  });
  const total = line("total", element("td"), "");
  total.className = "total";
  $("layers").replaceChildren(...rows, total);
}

function line(name, rule, title) {
  const cells = AMOUNTS.map((key) => element("td", { className: `number ${key in REASONS ? key : ""}` }));
  const head = element("th", { scope: "row", textContent: name, title });
  return element("tr", {}, head, rule, element("td", { className: "bar" }), ...cells);
}

function fillLedger() {
  const { start, end, entries } = answer.ledger;
  const total = { arriving: start, passed: end };
  for (const reason in REASONS) total[reason] = entries.reduce((sum, entry) => sum + entry[reason], 0);
  const rows = { ...Object.fromEntries(entries.map((entry) => [entry.layer, entry])), total };
  const ends = Object.values(rows).flatMap(edges);
  const [minimum, maximum] = [Math.min(0, ...ends), Math.max(0, ...ends)];
  for (const row of $("layers").children) {
    const entry = row.dataset.layer ? rows[row.dataset.layer] : total;
    const [bar, ...cells] = [...row.children].slice(2);
    if (row.dataset.layer) row.querySelector("option").textContent = entry.rule;
    bar.replaceChildren(drawBar(entry, minimum, maximum));
    AMOUNTS.forEach((key, k) => (cells[k].textContent = number(entry[key], key in REASONS ? 3 : 4)));
  }
  const table = $("layers").parentElement;
  for (const reason in REASONS) table.classList.toggle(`no-${reason}`, entries.every((entry) => entry[reason] === 0));
  const rest = Object.entries(REASONS).map(([reason, word]) => [word, total[reason]]);
  rest.push(["rounding", rest.reduce((left, [, amount]) => left - amount, start - end)]);
  const taken = rest.filter(([, amount]) => amount).map(([word, amount]) => {
    return ` ${amount < 0 ? "−" : "+"} ${number(Math.abs(amount), 3)} ${word}`;
  });
  const claim = element("b", { textContent: `${answer.name}: ${number(start)}` });
  $("sum").replaceChildren(claim, ` = ${number(end)} on the pixels${taken.join("")}`);
}

// Where the pieces of a bar end: first what is passed on, then what each reason absorbs, up to what arrived.
function edges(entry) {
  const found = [entry.passed];
  for (const reason in REASONS) found.push(found.at(-1) + entry[reason]);
  return found;
}

function drawBar(entry, minimum, maximum) {
  const make = (tag, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const x = (value) => (100 * (value - minimum)) / (maximum - minimum || 1);
  const svg = make("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" });
  const ends = edges(entry);
  const piece = (kind, from, to, height) => {
    const at = { x: Math.min(x(from), x(to)), width: Math.abs(x(to) - x(from)), y: (10 - height) / 2, height };
    if (at.width) svg.append(make("rect", { class: kind, ...at }));
  };
  piece("passed", 0, ends[0], 5);
  Object.keys(REASONS).forEach((reason, k) => piece(reason, ends[k], ends[k + 1], 8));
  svg.append(make("line", { x1: x(0), x2: x(0), y1: 0, y2: 10 }));
  return svg;
}

// ---- what the user does

function listen() {
  $("file").onchange = () => {
    const [file] = $("file").files;
    take(file, file?.name);
    $("file").value = ""; // the same file can be chosen again
  };
  const files = (event) => [...event.dataTransfer.types].includes("Files");
  addEventListener("dragover", (event) => {
    if (!files(event)) return;
    event.preventDefault();
    document.body.classList.add("dragging");
  });
  addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("dragging"));
  addEventListener("drop", (event) => {
    if (!files(event)) return;
    event.preventDefault();
    document.body.classList.remove("dragging");
    const [file] = event.dataTransfer.files;
    take(file, file?.name);
  });
  addEventListener("paste", (event) => {
    const [file] = event.clipboardData.files;
    take(file, file?.name);
  });
  $("model").onchange = changeModel;
  $("view").onchange = () => answer && draw();
  $("keep").onclick = keep;
  $("open-compare").onclick = compare;
  $("close-compare").onclick = () => $("side").close();
  $("save-picture").onclick = () => $("picture").toBlob((blob) => save(blob, `${stem()}.png`));
  $("save-numbers").onclick = saveNumbers;
  for (const what of ["command", "code"]) $(`copy-${what}`).onclick = (event) => copy(event.currentTarget, what);
  $("search").oninput = () => photo && listClasses();
  $("forget").onclick = () => {
    asked.layers = {};
    ask();
    $("layers").querySelector("select").focus();
  };
  dark.addEventListener("change", () => {
    drawScale();
    ask();
  });
  listenToSlider();
  listenToStage();
}

async function begin() {
  explainWords();
  const { models, first } = await (await fetch("/models")).json();
  $("model").replaceChildren(...models.map((name) => element("option", { value: name, textContent: name.split(/[\\/]/).at(-1) })));
  useModel(first, await choicesOf(first));
  listen();
  drawScale();
  const example = await exampleOf(first);
  if (example) return take(example.blob, example.name, example.example);
  $("empty").hidden = false;
  $("figure").setAttribute("aria-busy", "false");
}

begin().catch((error) => fail(`The page could not start: ${error.message}`));

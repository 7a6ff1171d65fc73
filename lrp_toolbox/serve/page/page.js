// The page asks POST /photo once for a photograph, and POST /explain whenever a class or a rule is chosen. An older question is
// given up when a newer one is asked, here and on the server. Nothing comes from elsewhere.

const $ = (id) => document.getElementById(id);
const REASONS = { bias: "bias", eps: "ε", empty: "empty", padding: "padding" };
const AMOUNTS = ["arriving", "passed", ...Object.keys(REASONS)];
const WAIT = 30; // ms for a slider to move on before it is asked about
const LISTED = 6; // classes shown without a search
const token = document.querySelector("meta[name=token]").content;
const page = crypto.randomUUID();
const dark = matchMedia("(prefers-color-scheme: dark)");

let choices; // what the server has to choose from
let photo; // { blob, name, outputs, picture }
let sending; // the blob of a photograph that is on its way
let answer; // to the last question, with its pictures
let asked = { target: 0, groups: {}, flat: 0, layers: {} };
let current; // AbortController of the request on its way
let waiting;

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

// As it is written to be printed: shorter than a thousandth in powers of ten.
function typed(value) {
  return value !== 0 && Math.abs(value) < 1e-3 ? value.toExponential() : String(value);
}

function size(bytes) {
  return `${(bytes / 2 ** 20).toFixed(0)} MB`;
}

// "z_ij" with its indices below the line.
function formula(text) {
  return text.split(/_(ij|i|j)/).map((part, k) => (k % 2 ? element("sub", { textContent: part }) : part));
}

async function bitmap(base64) {
  return createImageBitmap(new Blob([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))]));
}

async function post(path, body, signal) {
  const type = path === "/photo" ? "application/octet-stream" : "application/json";
  const headers = { "Content-Type": type, "X-Token": token, "X-Page": page };
  const response = await fetch(path, { method: "POST", body, signal, headers });
  const said = await response.json();
  if (!response.ok) throw Object.assign(new Error(said.error), { status: response.status });
  return said;
}

// One request at a time: the newest. What went wrong is said where the picture is.
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
    $("error").textContent = error instanceof TypeError ? "lrp serve does not answer: does it still run?" : error.message;
    $("error").hidden = false;
  } finally {
    if (mine === current) $("figure").setAttribute("aria-busy", "false");
  }
}

// ---- the photograph

function take(blob, name) {
  if (!blob) return;
  sending = blob;
  only(async (signal) => {
    $("status").textContent = `${name}: the network looks at it …`;
    try {
      await send(blob, name, signal);
    } finally {
      if (sending === blob) sending = undefined;
    }
    asked.target = photo.outputs.indexOf(Math.max(...photo.outputs));
    $("search").value = "";
    listClasses();
    await explain(signal);
  });
}

async function send(blob, name, signal) {
  if (blob.size > choices.largest) {
    throw new Error(`${name}: ${size(blob.size)} are too many; ${size(choices.largest)} is the limit`);
  }
  const said = await post("/photo", blob, signal);
  const picture = await bitmap(said.photo);
  signal.throwIfAborted();
  photo = { blob, name, picture, outputs: said.outputs };
}

// ---- the question

function ask() {
  clearTimeout(waiting);
  describe();
  if (photo && !sending) waiting = setTimeout(() => only(explain), WAIT); // else it is asked once the photograph is there
}

async function explain(signal) {
  const question = JSON.stringify({ ...asked, colours: dark.matches ? "night" : "day" });
  const what = { name: choices.classes[asked.target], output: photo.outputs[asked.target], by: title() };
  let said;
  try {
    said = await post("/explain", question, signal);
  } catch (error) {
    if (error.status !== 410) throw error; // the server has had other pages to look after
    await send(photo.blob, photo.name, signal);
    said = await post("/explain", question, signal);
  }
  const [overlay, heatmap] = await Promise.all([bitmap(said.overlay), bitmap(said.heatmap)]);
  signal.throwIfAborted();
  answer = { ...said, ...what, overlay, heatmap };
  draw();
  fillLedger();
  $("keep").disabled = false;
  const came = `${number(said.ledger.end)} of ${number(said.ledger.start)} came to the pixels`;
  $("status").textContent = `${what.name}: ${came}, in ${said.seconds.toFixed(2)} s`;
}

// What the rules are called: as the paper does, or group by group; and those of single layers.
function title() {
  const symbols = Object.fromEntries(choices.layers.map((layer) => [layer.name, layer.rules]));
  const single = Object.entries(asked.layers).map(([name, { rule }]) => `${name} ${symbols[name][rule]}`);
  const preset = choices.presets.find(isChosen);
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
  const same = (a, b) => a.rule === b.rule && Object.keys(a).every((key) => a[key] === b[key]);
  const groups = choices.groups.every(({ name }) => same(preset.groups[name], asked.groups[name]));
  return groups && preset.flat === asked.flat;
}

// ---- the picture

function draw() {
  const view = document.querySelector("[name=view]:checked").value;
  const canvas = $("picture"), { width, height } = photo.picture;
  const shown = view === "photo" ? photo.picture : answer[view];
  Object.assign(canvas, { width, height });
  canvas.classList.toggle("small", width < 200 || view === "heatmap");
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false; // every pixel of the heatmap is to be seen
  context.drawImage(shown, 0, 0, width, height);
  const colours = dark.matches ? "yellow and orange speak for it, blue against" : "red speaks for it, blue against";
  const what = {
    overlay: `Relevance for ${answer.name} over the photograph: ${colours}`,
    heatmap: `Relevance for ${answer.name}: ${colours}`,
    photo: `The photograph: ${photo.name}`,
  };
  canvas.setAttribute("aria-label", what[view]);
  $("caption").replaceChildren(element("b", { textContent: answer.name }), ` ${number(answer.output)} · ${answer.by}`);
  drawScale();
}

function drawScale() {
  const stops = choices.colours[dark.matches ? "night" : "day"];
  const context = $("scale").getContext("2d"), { width } = $("scale");
  const gradient = context.createLinearGradient(0, 0, width, 0);
  stops.forEach((rgb, k) => gradient.addColorStop(k / (stops.length - 1), `rgb(${rgb.join()})`));
  context.fillStyle = gradient;
  context.fillRect(0, 0, width, 1);
}

function keep() {
  const copy = $("picture").cloneNode();
  copy.removeAttribute("id");
  copy.getContext("2d").drawImage($("picture"), 0, 0);
  const words = `${answer.name}: ${answer.by}`;
  const away = element("button", { type: "button", textContent: "×", title: "put away" });
  away.setAttribute("aria-label", `Put away ${words}`);
  const figure = element("figure", {}, copy, element("figcaption", {}, words, away));
  away.onclick = () => {
    figure.remove();
    $("kept").hidden = !$("kept").children.length;
    $("keep").focus();
  };
  $("kept").append(figure);
  $("kept").hidden = false;
  $("status").textContent = `${words}: kept`;
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
  $("more").textContent = !found.length ? "no class of that name" : rest > 0 ? `and ${rest} more: search` : "";
}

// ---- rules

function options(select, rules, first) {
  const all = Object.entries(rules).map(([name, symbol]) => {
    const text = first === "" || symbol === name ? symbol : `${symbol} (${name})`; // there is little room in the ledger
    return element("option", { value: name, textContent: text });
  });
  if (first === undefined) return select.replaceChildren(...all);
  const byHand = element("optgroup", { label: "this layer, by hand" }, ...all);
  select.replaceChildren(element("option", { value: "", textContent: first }), byHand);
}

function spec(name) {
  return { ...choices.rules[name] };
}

function parameterOf(chosen) {
  return Object.keys(chosen).find((key) => key !== "rule");
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
    const slide = element("div", { className: "slide", hidden: true });
    const label = element("label", { htmlFor: id, textContent: group.title });
    const says = element("span", { className: "formula" });
    return element("div", { className: "rule", id: `${id}-row` }, label, select, slide, says);
  }));
  $("presets").replaceChildren(...choices.presets.map((preset) => {
    const button = element("button", { type: "button", textContent: preset.name });
    button.onclick = () => choose(preset);
    return button;
  }));
  $("flat").max = choices.depth;
  $("flat-row").hidden = !choices.depth;
  $("flat").oninput = () => {
    asked.flat = Number($("flat").value);
    ask();
  };
}

function choose(preset) {
  asked = { ...asked, groups: structuredClone(preset.groups), flat: preset.flat, layers: {} };
  ask();
}

// A slider and a number for what a rule takes; both are made anew only when the rule is another.
function parameter(slide, group) {
  const chosen = asked.groups[group.name];
  const key = parameterOf(chosen);
  slide.hidden = !key;
  if (!key) return slide.replaceChildren();
  const p = choices.parameters[key];
  const to = p.log ? (value) => Math.log10(Math.max(value, p.least)) : (value) => value;
  const from = p.log ? (at) => Number((10 ** at).toPrecision(2)) : (at) => at;
  if (slide.dataset.rule !== chosen.rule || !slide.children.length) {
    slide.dataset.rule = chosen.rule;
    const range = element("input", { type: "range", min: to(p.least), max: to(p.most), step: p.log ? 0.05 : 0.1 });
    const exact = element("input", { type: "number", min: p.log ? 0 : p.least, max: p.most, step: "any" });
    range.setAttribute("aria-label", `${p.symbol} of ${group.title}`);
    exact.setAttribute("aria-label", `${p.symbol} of ${group.title}, as a number`);
    range.oninput = () => set(from(Number(range.value)));
    exact.onchange = () => exact.reportValidity() && exact.value !== "" && set(Number(exact.value));
    slide.replaceChildren(element("span", { textContent: p.symbol }), range, exact);
  }
  function set(value) {
    asked.groups[group.name][key] = value;
    ask();
  }
  const [, range, exact] = slide.children;
  if (from(Number(range.value)) !== chosen[key]) range.value = to(chosen[key]);
  range.setAttribute("aria-valuetext", `${p.symbol} = ${chosen[key]}`);
  exact.value = typed(chosen[key]);
}

// All controls say what is asked.
function describe() {
  for (const group of choices.groups) {
    const row = $(`group-${group.name}-row`), chosen = asked.groups[group.name];
    row.querySelector("select").value = chosen.rule;
    row.querySelector(".formula").replaceChildren(...formula(group.formulas[chosen.rule].join("; ")));
    parameter(row.querySelector(".slide"), group);
  }
  const byHand = Object.keys(asked.layers).length > 0;
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
      Object.assign(exact, { min: p.log ? 0 : p.least, max: p.most, value: typed(chosen[key]), title: p.symbol });
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
  const pages = { ...Object.fromEntries(entries.map((entry) => [entry.layer, entry])), total };
  const ends = Object.values(pages).flatMap(edges);
  const [least, most] = [Math.min(0, ...ends), Math.max(0, ...ends)];
  for (const row of $("layers").children) {
    const entry = row.dataset.layer ? pages[row.dataset.layer] : total;
    const [bar, ...cells] = [...row.children].slice(2);
    if (row.dataset.layer) row.querySelector("option").textContent = entry.rule;
    bar.replaceChildren(drawBar(entry, least, most));
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

// Where the pieces of a bar end: what is passed on, and on top of it what each reason took, up to what arrived.
function edges(entry) {
  const found = [entry.passed];
  for (const reason in REASONS) found.push(found.at(-1) + entry[reason]);
  return found;
}

function drawBar(entry, least, most) {
  const make = (tag, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const x = (value) => (100 * (value - least)) / (most - least || 1);
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
    $("file").value = ""; // the same file may be chosen again
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
  $("view").onchange = () => answer && draw();
  $("keep").onclick = keep;
  $("search").oninput = () => photo && listClasses();
  $("forget").onclick = () => {
    asked.layers = {};
    ask();
    $("layers").querySelector("select").focus();
  };
  dark.addEventListener("change", ask);
}

async function begin() {
  choices = await (await fetch("/choices")).json();
  $("model").textContent = `${choices.model}. ${choices.summary}`;
  $("search").placeholder = `search all ${choices.classes.length} classes`;
  $("search").setAttribute("aria-label", $("search").placeholder);
  makeGroups();
  makeLayers();
  listen();
  drawScale();
  choose(choices.presets.find((preset) => preset.name === choices.usual) ?? choices.presets[0]);
  if (choices.example) take(await (await fetch("/example")).blob(), "the example that comes with the model");
  else $("figure").setAttribute("aria-busy", "false");
}

begin();

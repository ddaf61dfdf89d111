"use strict";
(() => {
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const PAGE = 25; // videos of a page of the table
const FEW = 30; // classes whose cells show numbers
const LABELS = 45; // most labels of an axis

// -- packed parts of this file ---------------------------------------------------------------

async function unpack(id) {
  const text = $("#" + id).textContent;
  if (!text) return "";
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

// Plotly reads tags in texts.
const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

// -- tables ------------------------------------------------------------------------------------

function valueOf(row, column) {
  const cell = row.cells[column];
  const text = cell.dataset.value ?? cell.textContent.trim();
  const number = Number(text.replace(/^[±+]\s*/, "").replace("−", "-"));
  return text !== "" && Number.isFinite(number) ? number : text;
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return a.localeCompare(b, undefined, { numeric: true });
}

function sortBy(table, header, column) {
  const down = header.getAttribute("aria-sort") === "ascending";
  $$("th", table).forEach((th) => th.removeAttribute("aria-sort"));
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [valueOf(row, column), row]);
  rows.sort((a, b) => (down ? compare(b[0], a[0]) : compare(a[0], b[0])));
  body.append(...rows.map((pair) => pair[1]));
}

function makeSortable(table) {
  $$("thead th", table).forEach((header, column) => {
    const button = element("button", header.textContent);
    button.type = "button";
    button.addEventListener("click", () => sortBy(table, header, column));
    header.replaceChildren(button);
  });
}

function makeSearchable(table) {
  if (table.tBodies[0].rows.length < 8) return;
  const label = element("label", "Search ", "find");
  const input = element("input");
  input.type = "search";
  label.append(input);
  table.parentElement.before(label);
  input.addEventListener("input", () => {
    const wanted = input.value.toLowerCase();
    for (const row of table.tBodies[0].rows) {
      row.hidden = !row.textContent.toLowerCase().includes(wanted);
    }
  });
}

// -- pictures that play --------------------------------------------------------------------------

function play(player, on) {
  player.setAttribute("aria-pressed", String(on));
}

function preparePlayers() {
  for (const player of $$(".player")) {
    player.addEventListener("click", () => play(player, player.getAttribute("aria-pressed") !== "true"));
  }
  for (const button of $$(".play-all")) {
    button.addEventListener("click", () => {
      const on = button.textContent === "play all";
      button.textContent = on ? "stop all" : "play all";
      $$(".player", button.closest(".shelf")).forEach((player) => play(player, on));
    });
  }
}

// -- figures -------------------------------------------------------------------------------------

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function themed(layout) {
  const line = { gridcolor: colour("--line"), linecolor: colour("--line"), zerolinecolor: colour("--line") };
  const hover = { bgcolor: colour("--panel"), bordercolor: colour("--line"), font: { color: colour("--text") } };
  return {
    ...layout,
    font: { color: colour("--text"), family: getComputedStyle(document.body).fontFamily, size: 12 },
    xaxis: { ...layout.xaxis, ...line },
    yaxis: { ...layout.yaxis, ...line },
    shapes: (layout.shapes || []).map((shape) => ({ ...shape, line: { color: colour("--soft"), ...shape.line } })),
    hoverlabel: { ...layout.hoverlabel, ...hover },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--soft"), activecolor: colour("--accent") },
  };
}

const BUTTONS = [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]];
const OPTIONS = { responsive: true, displaylogo: false, modeBarButtons: BUTTONS };

function draw(node, plot) {
  return Plotly.react(node, plot.data, themed(plot.layout), OPTIONS);
}

// -- a test ----------------------------------------------------------------------------------------

class Test {
  constructor(key, facts, plots) {
    Object.assign(this, { key, facts, plots, root: $("#" + key), page: 0 });
    this.filter = { label: null, guess: null };
    this.rowOf = new Map(facts.names.map((_, label) => [label, new Map()]));
    const [rows, columns, counts] = facts.cells;
    rows.forEach((row, i) => this.rowOf.get(row).set(columns[i], counts[i]));
    this.prepareFilters();
    this.prepareVideos();
    this.matrix = $(".matrix", this.root);
    this.order = $(".order", this.root);
    if (this.order) {
      if (facts.orders.confused.length > 60) this.order.value = "part";
      this.order.addEventListener("change", () => this.drawMatrix());
    }
  }

  // Share of the row in percent; only what is right, or only what is wrong.
  cells(order, right) {
    return order.map((label) => order.map((guess) => {
      const count = (label === guess) === right ? this.rowOf.get(label).get(guess) || 0 : 0;
      return (100 * count) / Math.max(this.facts.totals[label], 1);
    }));
  }

  texts(order, right) {
    return order.map((label) => order.map((guess) =>
      (label === guess) === right ? String(this.rowOf.get(label).get(guess) || "") : ""));
  }

  async drawMatrix() {
    const plot = this.plots[this.key + "-confusion"];
    if (!plot || !this.matrix) return;
    const order = this.facts.orders[this.order.value];
    const few = order.length <= FEW;
    const data = plot.data.map((trace, index) => {
      const z = this.cells(order, index === 0);
      const most = index === 0 ? 100 : Math.max(1, ...z.map((row) => Math.max(...row)));
      const gap = few ? 1 : 0;
      const shown = { ...trace, z, zmin: 0, zmax: most, xgap: gap, ygap: gap };
      if (!few) return { ...shown, colorscale: stronger(trace.colorscale) };
      return { ...shown, text: this.texts(order, index === 0), texttemplate: "%{text}", textfont: { color: colour("--text") } };
    });
    this.shown = order;
    this.matrix.style.setProperty("--tall", Math.min(150 + 42 * order.length, 820) + "px");
    const range = [-0.5, order.length - 0.5];
    const layout = {
      ...plot.layout,
      xaxis: { ...plot.layout.xaxis, range: [...range], autorange: false, ...this.ticks(range) },
      yaxis: { ...plot.layout.yaxis, range: [...range].reverse(), autorange: false, ...this.ticks(range) },
    };
    const narrow = this.matrix.clientWidth < 500;
    if (narrow) layout.margin = { l: 4, r: 4, t: 4, b: 4 };
    await draw(this.matrix, { data, layout });
    if (this.matrix.dataset.ready) return;
    this.matrix.dataset.ready = "yes";
    this.matrix.on("plotly_hover", (event) => this.showTip(event));
    this.matrix.on("plotly_unhover", () => { $("#tip").hidden = true; });
    this.matrix.on("plotly_click", (event) => {
      const { x, y } = event.points[0];
      this.choose(this.shown[y], this.shown[x]);
    });
    this.matrix.on("plotly_relayout", (change) => this.zoomed(change));
  }

  // Names for as many classes as there is room for between two positions.
  ticks(range) {
    const [low, high] = [Math.min(...range), Math.max(...range)];
    const places = this.shown.map((_, i) => i).filter((i) => i >= low && i <= high);
    const step = Math.ceil(places.length / (this.matrix.clientWidth < 500 ? 20 : LABELS));
    const kept = places.filter((_, i) => i % step === 0);
    return { tickmode: "array", tickvals: kept, ticktext: kept.map((i) => shortened(this.facts.names[this.shown[i]])) };
  }

  zoomed(change) {
    if (Object.keys(change).some((name) => name.includes("tick"))) return;
    const all = [-0.5, this.shown.length - 0.5];
    const { xaxis, yaxis } = this.matrix.layout;
    if (change["xaxis.autorange"]) { xaxis.range = all; yaxis.range = [...all].reverse(); }
    const x = this.ticks(xaxis.range), y = this.ticks(yaxis.range);
    Plotly.relayout(this.matrix, {
      "xaxis.range": xaxis.range, "yaxis.range": yaxis.range,
      "xaxis.tickvals": x.tickvals, "xaxis.ticktext": x.ticktext,
      "yaxis.tickvals": y.tickvals, "yaxis.ticktext": y.ticktext,
    });
  }

  showTip(event) {
    const { x, y } = event.points[0];
    const label = this.shown[y], guess = this.shown[x];
    const count = this.rowOf.get(label).get(guess) || 0, total = this.facts.totals[label];
    const tip = $("#tip");
    tip.replaceChildren(
      element("div", label === guess ? "right: " + this.facts.names[label] : this.facts.names[label] + " → " + this.facts.names[guess]),
      element("div", `${count} of ${total} videos` + (total ? `, ${((100 * count) / total).toFixed(1)} %` : "")),
    );
    tip.hidden = false;
    const left = Math.min(event.event.clientX + 14, innerWidth - tip.offsetWidth - 8);
    tip.style.left = Math.max(left, 4) + "px";
    tip.style.top = Math.min(event.event.clientY + 14, innerHeight - tip.offsetHeight - 8) + "px";
  }

  prepareFilters() {
    for (const row of $$(".pairs tbody tr, .classes tbody tr", this.root)) {
      const button = $(".link", row);
      if (!button) continue;
      button.addEventListener("click", () =>
        this.choose(Number(row.dataset.label), row.dataset.guess === undefined ? null : Number(row.dataset.guess)));
    }
    const clear = $(".clear", this.root);
    if (clear) clear.addEventListener("click", () => this.choose(null, null, false));
  }

  // Show the videos of a class, or of one confusion.
  choose(label, guess, move = true) {
    this.filter = { label, guess };
    this.page = 0;
    const names = this.facts.names;
    let text = "All videos";
    if (label !== null) text = guess === null ? "Class " + names[label] : names[label] + " → " + names[guess];
    $(".chosen", this.root).textContent = text;
    $(".filter", this.root).hidden = label === null;
    for (const shelf of $$(".shelf", this.root)) {
      const cards = $$(".clip", shelf);
      cards.forEach((card) => {
        card.hidden = !this.isChosen(Number(card.dataset.label), Number(card.dataset.guess));
      });
      $(".none", shelf).hidden = cards.some((card) => !card.hidden);
    }
    if (label !== null && label === guess) $(".only-wrong", this.root).checked = false;
    this.listVideos();
    if (move) {
      const gallery = $(".gallery", this.root);
      gallery.scrollIntoView();
      gallery.focus({ preventScroll: true });
    }
  }

  isChosen(label, guess) {
    const wanted = this.filter;
    if (wanted.label === null) return true;
    return label === wanted.label && (wanted.guess === null || guess === wanted.guess);
  }

  prepareVideos() {
    const table = $(".videos", this.root);
    if (!table) return;
    const word = this.facts.score;
    const titles = [["video"], ["true class"], ["prediction"], [word, "n"], [word + " of the true class", "n"]];
    table.tHead.rows[0].replaceChildren(...titles.map(([text, kind]) => element("th", text, kind)));
    const again = () => { this.page = 0; this.listVideos(); };
    $(".search-videos", this.root).addEventListener("input", again);
    $(".only-wrong", this.root).addEventListener("change", again);
    for (const [name, step] of [[".previous", -1], [".next", 1]]) {
      $(name, this.root).addEventListener("click", () => { this.page += step; this.listVideos(); });
    }
    this.bySureness = this.facts.paths.map((_, row) => row).sort((a, b) => this.facts.scores[b] - this.facts.scores[a]);
    this.listVideos();
  }

  listVideos() {
    const { paths, labels, guesses, scores, label_scores: own, names } = this.facts;
    const onlyWrong = $(".only-wrong", this.root).checked;
    const text = $(".search-videos", this.root).value.toLowerCase();
    const found = this.bySureness.filter((row) =>
      this.isChosen(labels[row], guesses[row]) &&
      (!onlyWrong || labels[row] !== guesses[row]) &&
      (!text || [this.facts.prefix + paths[row], names[labels[row]], names[guesses[row]]].join("\n").toLowerCase().includes(text)));
    const pages = Math.max(Math.ceil(found.length / PAGE), 1);
    this.page = Math.min(Math.max(this.page, 0), pages - 1);
    const shown = found.slice(this.page * PAGE, (this.page + 1) * PAGE);
    $(".videos", this.root).tBodies[0].replaceChildren(...shown.map((row) => {
      const line = element("tr");
      const path = element("td", paths[row], "path");
      path.title = this.facts.prefix + paths[row];
      const guess = element("td");
      guess.append(element("span", names[guesses[row]], labels[row] === guesses[row] ? "right" : "wrong"));
      line.append(path, element("td", names[labels[row]]), guess, element("td", fixed(scores[row]), "n"), element("td", fixed(own[row]), "n"));
      return line;
    }));
    $(".place", this.root).textContent = `${found.length} videos, page ${this.page + 1} of ${pages}`;
    $(".previous", this.root).disabled = this.page === 0;
    $(".next", this.root).disabled = this.page === pages - 1;
  }
}

// Cells of a pixel or two need full colours.
const stronger = (scale) => [scale[0], [0.001, scale[scale.length - 1][1].replace(/[\d.]+\)$/, "0.6)")], scale[scale.length - 1]];
const fixed = (value) => (value === null ? "–" : value.toFixed(3));
const shortened = (name) => plain(name.length > 26 ? name.slice(0, 25) + "…" : name);

// -- the whole page ----------------------------------------------------------------------------------

function showTest(key) {
  $$(".test").forEach((test) => { test.hidden = test.id !== key; });
  const choice = $("#test-choice");
  if (choice) choice.value = key;
}

async function main() {
  $$("table.sortable").forEach(makeSortable);
  $$("table.searchable").forEach(makeSearchable);
  preparePlayers();
  if (typeof DecompressionStream === "undefined") throw new Error("this browser is older than 2023");
  const content = JSON.parse(await unpack("packed-data"));
  const tests = {};
  for (const [key, facts] of Object.entries(content.tests)) tests[key] = new Test(key, facts, content.plots);
  const library = await unpack("packed-library");
  if (library) {
    const script = element("script", library);
    document.head.append(script);
  }
  const isVisible = (node) => !node.closest("[hidden]");
  const drawAll = async () => {
    for (const node of $$(".figure").filter(isVisible)) {
      const name = node.dataset.figure;
      if (node.classList.contains("matrix")) await tests[name.replace(/-confusion$/, "")].drawMatrix();
      else if (content.plots[name]) await draw(node, content.plots[name]);
    }
  };
  const change = (key) => { showTest(key); return drawAll(); };
  const choice = $("#test-choice");
  if (choice) choice.addEventListener("change", () => change(choice.value));
  $$("a[data-test]").forEach((link) => link.addEventListener("click", () => change(link.dataset.test)));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  if (library) await drawAll();
  document.documentElement.dataset.ready = "yes";
}

main().catch((error) => {
  const note = $("#failure");
  note.textContent = "Figures and filters cannot be shown: " + error.message;
  note.hidden = false;
  throw error;
});
})();

"use strict";
{
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const root = document.documentElement;

  // Text goes into the page by textContent alone: ids are other people's.
  const make = (tag, className = "", text = "") => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== "") element.textContent = text;
    return element;
  };
  const swatch = (label) => {
    const mark = make("i", "swatch");
    mark.style.background = data.colours[label];
    return mark;
  };
  const many = data.runs.length > 2; // names stand beside colours then
  const runKey = (run) => make("span", `key run-${run % data.run_colours}`);
  const points = (value) => (value === null ? "–" : value.toFixed(1));

  // -- theme ----------------------------------------------------------------------------------------------------------

  const themes = ["system", "light", "dark"];
  const setTheme = (theme) => {
    root.dataset.theme = theme;
    byId("theme").textContent = `Theme: ${theme}`;
  };
  const nextTheme = () => {
    setTheme(themes[(themes.indexOf(root.dataset.theme) + 1) % themes.length]);
    try { localStorage.setItem("report-theme", root.dataset.theme); } catch { /* a page from disk may have none */ }
  };
  let kept = null;
  try { kept = localStorage.getItem("report-theme"); } catch { /* as above */ }
  setTheme(themes.includes(kept) ? kept : "system");
  byId("theme").addEventListener("click", nextTheme);

  // -- charts: the values under the pointer ---------------------------------------------------------------------------

  const readable = (value) => String(Number(value.toPrecision(4)));
  for (const chart of document.querySelectorAll(".chart")) {
    const plot = chart.querySelector(".plot");
    const cursor = chart.querySelector(".cursor");
    const readout = chart.querySelector(".readout");
    const [x0, x1] = chart.dataset.x.split(" ").map(Number);
    const [y0, y1] = chart.dataset.y.split(" ").map(Number);
    const lines = [...chart.querySelectorAll("polyline")].reverse().map((line) => ({
      run: Number(line.dataset.run),
      at: line.getAttribute("points").split(" ").map((point) => point.split(",").map(Number)),
    }));
    plot.addEventListener("pointermove", (event) => {
      const box = plot.getBoundingClientRect();
      const x = (100 * (event.clientX - box.left)) / box.width;
      const y = (100 * (event.clientY - box.top)) / box.height;
      let nearest = lines.map(({ run, at }) => [run, at.reduce((a, b) => (Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a))]);
      // Of many lines the one under the pointer.
      if (many) nearest = [nearest.reduce((a, b) => (Math.abs(b[1][1] - y) < Math.abs(a[1][1] - y) ? b : a))];
      cursor.hidden = false;
      cursor.style.left = `${nearest[0][1][0]}%`;
      readout.replaceChildren(`${readable(x0 + ((x1 - x0) * nearest[0][1][0]) / 100)}: `);
      for (const [run, [, at]] of nearest) {
        if (data.runs.length > 1) readout.append(runKey(run));
        if (many) readout.append(`${data.runs[run]} `);
        readout.append(`${readable(y1 - ((y1 - y0) * at) / 100)} `);
      }
    });
    plot.addEventListener("pointerleave", () => {
      cursor.hidden = true;
      readout.replaceChildren();
    });
  }

  // -- classes --------------------------------------------------------------------------------------------------------

  const stage = () => byId("stage")?.value;
  const orderClasses = () => {
    const name = byId("class-order").value;
    for (const body of document.querySelectorAll(".classes tbody")) {
      body.append(...[...body.rows].sort((a, b) => a.dataset[name] - b.dataset[name] || a.dataset.number - b.dataset.number));
    }
  };
  const stageChoices = [...document.querySelectorAll(".stage-choice")];
  const chooseStage = (event) => {
    for (const choice of stageChoices) choice.value = event.target.value;
    for (const table of document.querySelectorAll(".scroll[data-stage]")) table.hidden = table.dataset.stage !== stage();
    showImages();
  };
  for (const choice of stageChoices) choice.addEventListener("change", chooseStage);
  byId("class-order")?.addEventListener("change", orderClasses);

  // -- settings -------------------------------------------------------------------------------------------------------

  const differences = byId("differences");
  const showDifferences = () => document.body.classList.toggle("only-differences", Boolean(differences?.checked));
  differences?.addEventListener("change", showDifferences);
  showDifferences();

  // -- one image ------------------------------------------------------------------------------------------------------

  const PARTS = { truth: "Ground truth", saliency: "Saliency", cam: "CAM" };
  // The name of a picture: image, truth, saliency, "<run> cam <label>", "<run> <stage>" or "<run> <stage> errors".
  const described = (name) => {
    const [first, part, last] = name.split(" ");
    if (part === undefined) return { run: null, part: first, flat: first === "truth", text: PARTS[first] ?? "Image" };
    const run = Number(first);
    if (part === "cam") return { run, part, flat: false, text: `CAM ${data.names[last]}` };
    const text = data.stages[part];
    return last ? { run, part: "errors", flat: true, text: `${text}, errors` } : { run, part, flat: true, text };
  };
  const hiddenParts = new Set();
  const hiddenRuns = new Set();
  const isShown = ({ run, part }) => !hiddenParts.has(part) && !hiddenRuns.has(run);

  // `byKind`: in a row of one kind, whose title is what the picture shows; then it is called by its run.
  const makePanel = (image, sources, name, byKind = false) => {
    const { run, part, flat, text } = described(name);
    const figure = make("figure", "panel");
    figure.dataset.part = part;
    const stack = make("div", "stack");
    for (const layer of name === "image" ? ["image"] : ["image", name]) {
      const picture = make("img", layer === name && name !== "image" ? `over${flat ? " flat" : ""}` : "");
      picture.loading = "lazy";
      picture.decoding = "async";
      picture.alt = layer === name ? `${text} of ${image.id}` : "";
      picture.src = sources[layer];
      stack.append(picture);
    }
    const caption = make("figcaption");
    if (run !== null && data.runs.length > 1) caption.append(runKey(run));
    caption.append(byKind ? data.runs[run] : text);
    const score = many ? scoreOfPicture(image, name) : null;
    if (score !== null) caption.append(" ", make("b", "", points(score)));
    figure.append(stack, caption);
    return figure;
  };

  // The IoU of a label map; null for other pictures.
  const scoreOfPicture = (image, name) => {
    const [run, stage, last] = name.split(" ");
    return last === undefined ? image.iou[stage]?.[run] ?? null : null;
  };

  // From a kind of pictures, which is a name without its run, to where it stands: CAMs first, errors behind their maps.
  const placeOfKind = (kind) => {
    const [part, last] = kind.split(" ");
    const place = 2 * Object.keys(data.stages).indexOf(part);
    return part === "cam" ? -1 : last === "errors" ? place + 1 : place;
  };

  // A row: its title, and its pictures.
  const rowsOfKinds = (names) => {
    const kinds = Map.groupBy(names, (name) => name.slice(name.indexOf(" ") + 1));
    return [...kinds].sort(([a], [b]) => placeOfKind(a) - placeOfKind(b)).map(([, of]) => ({ title: [described(of[0]).text], names: of, byKind: true }));
  };

  // One row a run, or a kind; of two runs, each begins with what it is compared to.
  const rowsOf = (names) => {
    const shared = names.filter((name) => described(name).run === null);
    const of = (run) => names.filter((name) => described(name).run === run);
    if (data.runs.length === 1) return [{ names }];
    if (many) {
      const own = names.filter((name) => described(name).run !== null);
      const rows = data.runs.map((title, run) => ({ title: [runKey(run), title], names: of(run) }));
      return [{ names: shared }, ...(byId("rows").value === "kind" ? rowsOfKinds(own) : rows)].filter((row) => row.names.length);
    }
    const truth = shared.filter((name) => name === "truth");
    const other = shared.includes("saliency") ? "saliency" : "image";
    return [{ names: ["image", ...truth, ...of(0)] }, { names: [other, ...truth, ...of(1)] }];
  };

  const addPanels = (card) => {
    const number = Number(card.dataset.number);
    const image = data.images[number];
    const sources = JSON.parse(byId(`pictures-${number}`).textContent);
    const names = image.pictures.filter((name) => isShown(described(name)));
    card.querySelectorAll(".panels").forEach((panels) => panels.remove());
    for (const { title, names: ofRow, byKind } of rowsOf(names)) {
      const panels = make("div", "panels");
      if (title) {
        const line = make("p", "row-title");
        line.append(...title);
        panels.append(line);
      }
      panels.append(...ofRow.map((name) => makePanel(image, sources, name, byKind)));
      card.append(panels);
    }
    card.dataset.drawn = "yes";
  };

  const enlarge = (card) => {
    const large = card.classList.toggle("large");
    const button = card.querySelector("button");
    button.textContent = large ? "Reduce" : "Enlarge";
    button.setAttribute("aria-label", `${button.textContent} ${card.dataset.id}`);
    button.setAttribute("aria-expanded", String(large));
  };

  const scoreLine = (image, key) => {
    const line = make("span");
    line.append(`${data.stages[key]} `);
    const scores = image.iou[key];
    // Many runs' stand at their pictures.
    if (!many) scores.forEach((value, run) => {
      if (value === null && scores.length > 1) return;
      if (scores.length > 1) line.append(runKey(run));
      line.append(make("b", "", points(value)), " ");
    });
    const gain = gainOf(image, key);
    if (gain !== null) {
      const text = `${gain > 0 ? "+" : ""}${gain.toFixed(1)}`;
      line.append(make("span", `gain ${gain >= 0.05 ? "up" : gain <= -0.05 ? "down" : ""}`, text));
    }
    return line;
  };

  const gainOf = (image, key) => {
    const scores = image.iou[key] ?? [];
    return scores.length < 2 || scores.slice(0, 2).includes(null) ? null : scores[0] - scores[1];
  };

  const makeCard = (number) => {
    const image = data.images[number];
    const card = make("article", "card");
    card.tabIndex = -1;
    card.dataset.number = number;
    card.dataset.id = image.id;
    card.setAttribute("aria-label", image.id);
    const head = make("div", "card-head");
    const chips = make("span", "chips");
    const hasScores = Object.values(image.iou).some((values) => values.some((value) => value !== null));
    if (!hasScores) chips.append("in the pictures:"); // not the image's true labels, which a mask would tell
    for (const label of image.labels) {
      const chip = make("span");
      chip.append(swatch(label), data.names[label]);
      chips.append(chip);
    }
    const scores = make("span", "scores");
    for (const key of Object.keys(image.iou)) if (many ? gainOf(image, key) !== null : image.iou[key].some((value) => value !== null)) scores.append(scoreLine(image, key));
    const button = make("button", "", "Enlarge");
    button.type = "button";
    button.setAttribute("aria-expanded", "false");
    button.setAttribute("aria-label", `Enlarge ${image.id}`);
    button.addEventListener("click", () => enlarge(card));
    head.append(make("h3", "", image.id), chips, scores, button);
    card.append(head);
    return card;
  };

  // -- gallery: cards of a screenful at a time, their pictures when they come near ----------------------------------------

  const AT_ONCE = 40;
  const gallery = byId("gallery");
  let waiting = [];
  const nearby = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      if (!target.dataset.drawn) addPanels(target);
      if (target === gallery.lastElementChild) addCards();
    }
  }, { rootMargin: "800px" });

  const addCards = () => {
    for (const number of waiting.splice(0, AT_ONCE)) {
      const card = makeCard(number);
      gallery.append(card);
      nearby.observe(card);
    }
  };

  // From an image to what it is sorted by, ascending; images without it come last.
  const scoreOf = (image) => (image.iou[stage()] ?? []).find((value) => value !== null) ?? null;
  const ORDERS = {
    worst: scoreOf,
    best: (image) => (scoreOf(image) === null ? null : -scoreOf(image)),
    loss: (image) => gainOf(image, stage()),
    won: (image) => (gainOf(image, stage()) === null ? null : -gainOf(image, stage())),
    id: () => 0,
  };

  const fits = (image) => {
    const text = byId("find").value.trim().toLowerCase();
    const label = byId("class").value;
    return image.id.toLowerCase().includes(text) && (label === "" || image.labels.includes(Number(label)));
  };

  function showImages() {
    if (!gallery) return;
    const key = ORDERS[byId("order").value];
    const last = (value) => (value === null ? Infinity : value);
    const numbers = data.images.map((_, number) => number).filter((number) => fits(data.images[number]));
    const keys = new Map(numbers.map((number) => [number, last(key(data.images[number]))]));
    waiting = numbers.sort((a, b) => (keys.get(a) === keys.get(b) ? a - b : keys.get(a) - keys.get(b)));
    byId("count").textContent = `${numbers.length} of ${data.images.length} images`;
    byId("none").hidden = numbers.length > 0;
    nearby.disconnect();
    gallery.replaceChildren();
    addCards();
  }

  const setOpacity = (value) => {
    byId("opacity").value = value;
    byId("opacity-value").textContent = `${byId("opacity").value} %`;
    root.style.setProperty("--opacity", byId("opacity").value / 100);
  };

  const clearFilters = () => {
    byId("find").value = "";
    byId("class").value = "";
    showImages();
  };

  const move = (by) => {
    const cards = [...gallery.children];
    const current = cards.indexOf(document.activeElement?.closest(".card"));
    const card = cards[Math.max(current + by, 0)];
    if (!card) return;
    if (card === gallery.lastElementChild) addCards();
    card.focus({ preventScroll: true });
    card.scrollIntoView({ block: "start" });
  };

  const KEYS = {
    "/": () => byId("find").focus(),
    j: () => move(1),
    k: () => move(-1),
    "[": () => setOpacity(Number(byId("opacity").value) - 5),
    "]": () => setOpacity(Number(byId("opacity").value) + 5),
    Escape: clearFilters,
  };

  if (gallery) {
    const counts = new Map();
    for (const image of data.images) for (const label of image.labels) counts.set(label, (counts.get(label) ?? 0) + 1);
    for (const label of [...counts.keys()].sort((a, b) => a - b)) {
      const option = make("option", "", `${data.names[label]} (${counts.get(label)})`);
      option.value = label;
      byId("class").append(option);
    }
    const redraw = () => gallery.querySelectorAll(".card[data-drawn]").forEach(addPanels);
    // A box that leaves what is called `value` out, which `hidden` then has.
    const addBox = (list, value, hidden, ...text) => {
      const label = make("label");
      const box = make("input");
      box.type = "checkbox";
      box.checked = true;
      box.value = value;
      box.addEventListener("change", () => {
        if (box.checked) hidden.delete(value);
        else hidden.add(value);
        redraw();
      });
      const words = make("span");
      words.append(...text);
      label.append(box, words);
      list.append(label);
    };
    const parts = { ...PARTS, ...data.stages, errors: "Errors" };
    const there = new Set(data.images.flatMap((image) => image.pictures.map((name) => described(name).part)));
    for (const part of Object.keys(parts).filter((name) => there.has(name))) addBox(byId("parts"), part, hiddenParts, parts[part]);
    if (many) data.runs.forEach((name, run) => addBox(byId("runs"), run, hiddenRuns, runKey(run), name));
    byId("rows")?.addEventListener("change", redraw);
    for (const button of document.querySelectorAll("[data-label]")) {
      button.addEventListener("click", () => {
        const select = byId("class");
        select.value = button.dataset.label;
        if (select.selectedIndex < 0) select.value = ""; // of no image, or the background: all
        showImages();
        byId("images").focus();
      });
    }
    byId("find").addEventListener("input", showImages);
    byId("class").addEventListener("change", showImages);
    byId("order").addEventListener("change", showImages);
    byId("opacity").addEventListener("input", (event) => setOpacity(event.target.value));
    byId("clear").addEventListener("click", clearFilters);
    setOpacity(byId("opacity").value);
    showImages();
  }

  document.addEventListener("keydown", (event) => {
    const at = document.activeElement;
    const typing = at instanceof HTMLInputElement && at.type === "search";
    if (event.ctrlKey || event.metaKey || event.altKey || at instanceof HTMLSelectElement) return;
    if (event.key === "t" && !typing) nextTheme();
    else if (!gallery || (typing && !(event.key === "Escape" && at.id === "find"))) return;
    else if (event.key === "Enter" && at?.classList.contains("card")) enlarge(at);
    else if (event.key in KEYS) {
      event.preventDefault();
      KEYS[event.key]();
    }
  });
}

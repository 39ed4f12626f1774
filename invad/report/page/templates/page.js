"use strict";
// Tables sort by a click on a heading: once, the other way, and back to the order of the page. A difference row stays below the row it
// belongs to, summary rows stay last, and rows stay in their block.
for (const table of document.querySelectorAll("table.sortable")) {
  const blocks = [...table.tBodies].map((body) => {
    const units = [];
    for (const row of body.rows) {
      if (row.classList.contains("difference") && units.length) units.at(-1).push(row);
      else units.push([row]);
    }
    return { body, units };
  });
  const isSummary = (unit) => unit[0].classList.contains("summary");
  if (blocks.every(({ units }) => units.filter((unit) => !isSummary(unit)).length < 2)) continue;
  let sorted = null;
  let direction = 0;

  const compare = (column) => (a, b) => {
    if (isSummary(a) || isSummary(b)) return isSummary(a) - isSummary(b);
    const [one, two] = [a, b].map((unit) => unit[0].cells[column]);
    if (one.dataset.value === undefined) {
      return direction * one.textContent.localeCompare(two.textContent, "en", { numeric: true });
    }
    if (!one.dataset.value || !two.dataset.value) return !one.dataset.value - !two.dataset.value; // missing ones last
    return direction * (Number(one.dataset.value) - Number(two.dataset.value));
  };

  [...table.tHead.rows[table.tHead.rows.length - 1].cells].forEach((head, column) => {
    const first = head.classList.contains("word") || head.dataset.best === "lowest" ? 1 : -1;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      direction = sorted !== head ? first : direction === first ? -first : 0;
      sorted?.removeAttribute("aria-sort");
      sorted = direction ? head : null;
      sorted?.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
      for (const { body, units } of blocks) body.append(...(direction ? [...units].sort(compare(column)) : units).flat());
    });
  });
}

// A table that is wider than its place says so at the edge where more of it lies.
for (const box of document.querySelectorAll(".scroll")) {
  const look = () => {
    box.classList.toggle("more-right", box.scrollWidth - box.clientWidth - box.scrollLeft > 1);
    box.classList.toggle("more-left", box.scrollLeft > 1);
  };
  box.addEventListener("scroll", look, { passive: true });
  new ResizeObserver(look).observe(box);
  look();
}

// The galleries: the cards that pass the filters, some at a time, and one viewer for all galleries.
const STEP = matchMedia("(max-width: 44rem)").matches ? 8 : 24;
const viewer = document.getElementById("viewer");
const inside = (selector) => viewer.querySelector(selector);
let shown = { cards: [], index: 0, title: "" };

function draw() {
  const { cards, index, title } = shown;
  const { dataset, firstChild: button } = cards[index];
  inside("h2").textContent = dataset.name;
  inside(".stack").replaceWith(button.querySelector(".stack").cloneNode(true));
  const facts = {
    Benchmark: title,
    Class: dataset.class,
    "Data set says": dataset.kind,
    Score: button.querySelector("b").textContent.replace("score ", ""),
    Threshold: dataset.threshold ? String(Number(Number(dataset.threshold).toPrecision(4))) : "none",
    Outcome: dataset.outcome,
    "Ground truth": dataset.truth,
  };
  inside("dl").replaceChildren(
    ...Object.entries(facts).map(([term, value]) => {
      const line = document.createElement("div");
      for (const [tag, content] of [["dt", term], ["dd", value]]) {
        line.append(Object.assign(document.createElement(tag), { textContent: content }));
      }
      return line;
    }),
  );
  const ends = viewer.querySelectorAll(".scale span");
  [dataset.low, dataset.high].forEach((value, end) => (ends[end].textContent = value));
  inside(".step span").textContent = `${index + 1} of ${cards.length}`;
}

function step(by) {
  shown.index = (shown.index + by + shown.cards.length) % shown.cards.length;
  draw();
}

function mixes(box, slider, outline) {
  const look = () => {
    box.style.setProperty("--mix", slider.value / 100);
    box.classList.toggle("plain", !outline.checked);
  };
  for (const control of [slider, outline]) control.addEventListener("input", look);
  look();
}

function startGallery(root) {
  const control = (name) => root.querySelector(`[data-control="${name}"]`);
  const list = root.querySelector(".cards");
  const more = root.querySelector(".more");
  const all = [...list.children];
  const score = (item) => Number(item.dataset.score);
  const distance = (item) => (item.dataset.threshold ? Math.abs(score(item) - Number(item.dataset.threshold)) : Infinity);
  const orders = {
    descending: () => 0, // that of the page
    ascending: (a, b) => score(a) - score(b),
    distance: (a, b) => (distance(a) === distance(b) ? 0 : distance(a) - distance(b)),
  };
  let chosen = [];
  let count = 0;

  function grow() {
    const next = chosen.slice(count, count + STEP);
    for (const item of next) item.hidden = false;
    count += next.length;
    more.hidden = count >= chosen.length;
    more.textContent = `Show more (${chosen.length - count} left)`;
    return next[0];
  }

  function filter() {
    const fits = (item) => ["class", "outcome"].every((name) => ["", item.dataset[name]].includes(control(name).value));
    chosen = all.filter(fits).sort(orders[control("order").value]);
    root.querySelector(".status").textContent = `${chosen.length} of ${all.length} images`;
    for (const item of all) item.hidden = true;
    list.append(...chosen);
    count = 0;
    grow();
  }

  for (const name of ["class", "outcome", "order"]) control(name).addEventListener("change", filter);
  mixes(root, control("mix"), control("outline"));
  more.addEventListener("click", () => grow()?.firstChild.focus());
  list.addEventListener("click", (event) => {
    const item = event.target.closest("li");
    if (!item) return;
    const cards = chosen.includes(item) ? chosen : all; // an image of the first screen may be filtered out here
    shown = { cards, index: cards.indexOf(item), title: root.dataset.title };
    draw();
    viewer.showModal(); // which gives the focus back to the card when it closes
  });
  filter();
}

if (viewer) {
  const actions = { close: () => viewer.close(), previous: () => step(-1), next: () => step(1) };
  for (const [name, action] of Object.entries(actions)) inside(`[data-action=${name}]`).addEventListener("click", action);
  viewer.addEventListener("click", (event) => event.target === viewer && viewer.close()); // beside the box
  viewer.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || event.target.type === "range" || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    step(by);
  });
  mixes(viewer, inside("[type=range]"), inside("[type=checkbox]"));
  document.querySelectorAll(".gallery").forEach(startGallery);
  for (const link of document.querySelectorAll(".samples a")) {
    link.addEventListener("click", (event) => {
      const cards = document.getElementById(decodeURIComponent(link.hash.slice(1))).querySelectorAll(".cards li");
      const card = [...cards].find((item) => item.dataset.name === link.dataset.name);
      if (!card) return;
      event.preventDefault();
      card.firstChild.click();
    });
  }
}

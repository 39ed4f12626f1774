"use strict";
// The galleries: cards for the images that pass the filters, some at a time, and one viewer for all galleries.
(() => {
  const STEP = matchMedia("(max-width: 44rem)").matches ? 8 : 24;
  const MEDIA = { picture: "image/webp", map: "image/webp", outline: "image/png" };
  const SIGNS = ["✓", "✗", "✗", "✓", "?"];
  const text = (tag, content, className = "") => Object.assign(document.createElement(tag), { textContent: content, className });
  const score = (value) => String(Number(value.toPrecision(4)));

  function readGallery(root) {
    const data = JSON.parse(root.querySelector("script").textContent);
    data.images.forEach((image, index) => {
      image.group = data.classes[image.class];
      image.source = (part) =>
        image[part]
          ? `data:${MEDIA[part]};base64,${image[part]}`
          : document.getElementById(`${root.id}-${index}-${part}`)?.src ?? "";
      image.distance = image.group.threshold === null ? Infinity : Math.abs(image.score - image.group.threshold);
      image.verdict = `${SIGNS[image.outcome]} ${data.outcomes[image.outcome]}`;
    });
    return data;
  }

  function layers(image) {
    const stack = text("span", "", "stack");
    for (const part of Object.keys(MEDIA)) {
      const source = image.source(part);
      if (!source) continue;
      const layer = Object.assign(new Image(...image.size), { className: part, alt: "", src: source });
      stack.append(layer);
    }
    stack.firstChild.alt = `Test image of ${image.group.name}, ${image.kind}`;
    return stack;
  }

  function card(image, open) {
    const button = text("button", "", "card");
    button.type = "button";
    const verdict = text("span", image.verdict, image.outcome === 1 || image.outcome === 2 ? "verdict wrong" : "verdict");
    button.append(layers(image), text("b", `score ${score(image.score)}`), verdict, text("span", `${image.group.name}, ${image.kind}`));
    button.addEventListener("click", open);
    const item = document.createElement("li");
    item.append(button);
    return item;
  }

  const ORDERS = {
    descending: (a, b) => b.score - a.score,
    ascending: (a, b) => a.score - b.score,
    distance: (a, b) => (a.distance === b.distance ? 0 : a.distance - b.distance),
  };

  function start(root) {
    const data = readGallery(root);
    const control = (name) => root.querySelector(`[data-control="${name}"]`);
    const list = root.querySelector(".cards");
    const more = root.querySelector(".more");
    let chosen = [];

    const total = (group, outcome) =>
      data.classes
        .filter((_, index) => group === "" || index === Number(group))
        .flatMap(({ totals }) => (outcome === "" ? totals : [totals[outcome]]))
        .reduce((sum, count) => sum + count, 0);
    const matches = (group, outcome) =>
      data.images.filter(
        (image) => (group === "" || image.class === Number(group)) && (outcome === "" || image.outcome === Number(outcome)),
      );

    function nameOutcomes() {
      const group = control("class").value;
      const kept = control("outcome").value;
      const options = data.outcomes.flatMap((name, index) => {
        const all = total(group, index);
        return all ? [new Option(`${name} (${matches(group, index).length} of ${all} shown)`, index)] : [];
      });
      control("outcome").replaceChildren(new Option("all outcomes", ""), ...options);
      control("outcome").value = options.some((option) => option.value === kept) ? kept : "";
    }

    function grow() {
      const next = chosen.slice(list.children.length, list.children.length + STEP);
      const cards = next.map((image) => card(image, (event) => view(chosen, chosen.indexOf(image), event.currentTarget, root.dataset.title)));
      list.append(...cards);
      more.hidden = list.children.length >= chosen.length;
      more.textContent = `Show more (${chosen.length - list.children.length} left)`;
      return cards[0];
    }

    function filter() {
      const [group, outcome] = [control("class").value, control("outcome").value];
      chosen = matches(group, outcome).sort(ORDERS[control("order").value]);
      root.querySelector(".status").textContent = `${chosen.length} of ${total(group, outcome)} test images shown`;
      list.replaceChildren();
      grow();
    }

    const appearance = () => {
      root.style.setProperty("--mix", control("mix").value / 100);
      list.classList.toggle("plain", !control("outline").checked);
    };
    control("class").addEventListener("change", () => (nameOutcomes(), filter()));
    for (const name of ["outcome", "order"]) control(name).addEventListener("change", filter);
    for (const name of ["mix", "outline"]) control(name).addEventListener("input", appearance);
    more.addEventListener("click", () => grow()?.firstChild.focus());
    nameOutcomes();
    appearance();
    filter();
  }

  const viewer = document.getElementById("viewer");
  const inside = (selector) => viewer.querySelector(selector);
  let shown = { images: [], index: 0, opener: null, title: "" };

  function view(images, index, opener, title) {
    shown = { images, index, opener, title };
    draw();
    viewer.showModal();
  }

  function draw() {
    const image = shown.images[shown.index];
    inside("h2").textContent = image.name;
    for (const part of Object.keys(MEDIA)) {
      const layer = inside(`img.${part}`);
      const source = image.source(part);
      [layer.width, layer.height] = image.size;
      layer.hidden = !source;
      if (source) layer.src = source;
      else layer.removeAttribute("src");
    }
    inside("img.picture").alt = `Test image of ${image.group.name}, ${image.kind}`;
    inside("img.map").alt = "Its anomaly map, above the threshold";
    const { threshold, range } = image.group;
    const facts = {
      Benchmark: shown.title,
      Class: image.group.name,
      "Data set says": image.kind,
      Score: score(image.score),
      Threshold: threshold === null ? "none" : score(threshold),
      Outcome: image.verdict,
      "Ground truth": image.truth,
    };
    inside("dl").replaceChildren(
      ...Object.entries(facts).map(([term, value]) => {
        const line = document.createElement("div");
        line.append(text("dt", term), text("dd", value));
        return line;
      }),
    );
    const ends = viewer.querySelectorAll(".scale span");
    range.forEach((value, end) => (ends[end].textContent = value));
    inside(".step span").textContent = `${shown.index + 1} of ${shown.images.length}`;
  }

  function step(by) {
    shown.index = (shown.index + by + shown.images.length) % shown.images.length;
    draw();
  }

  function mixViewer() {
    viewer.style.setProperty("--mix", inside("[type=range]").value / 100);
    viewer.classList.toggle("plain", !inside("[type=checkbox]").checked);
  }

  function startViewer() {
    inside("[data-action=close]").addEventListener("click", () => viewer.close());
    inside("[data-action=previous]").addEventListener("click", () => step(-1));
    inside("[data-action=next]").addEventListener("click", () => step(1));
    viewer.addEventListener("input", mixViewer);
    viewer.addEventListener("click", (event) => event.target === viewer && viewer.close()); // beside the box
    viewer.addEventListener("close", () => shown.opener?.focus());
    viewer.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!by || event.target.type === "range" || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      step(by);
    });
    mixViewer();
  }

  if (viewer) {
    startViewer();
    document.querySelectorAll(".gallery").forEach(start);
  }
})();

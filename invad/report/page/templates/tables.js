"use strict";
// Tables sort by a click on a heading: once, the other way, and back to the order of the page. A difference row stays below the row it
// belongs to, summary rows stay last, and rows stay in their block; where no block has two rows to compare, the blocks are sorted.
for (const table of document.querySelectorAll("table.sortable")) {
  const blocks = [...table.tBodies].map((body) => {
    const units = [];
    for (const row of body.rows) {
      if (row.classList.contains("difference") && units.length) units.at(-1).push(row);
      else units.push([row]);
    }
    const isSummary = (unit) => unit[0].classList.contains("summary");
    return { body, units, plain: units.filter((unit) => !isSummary(unit)), last: units.filter(isSummary) };
  });
  const single = blocks.every((block) => block.plain.length < 2);
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  let sorted = null;
  let direction = 0;

  const compare = (column) => (a, b) => {
    const [one, two] = [a, b].map((unit) => unit[0].cells[column]);
    if (one.dataset.value === undefined) {
      return direction * one.textContent.localeCompare(two.textContent, "en", { numeric: true });
    }
    if (!one.dataset.value || !two.dataset.value) return !one.dataset.value - !two.dataset.value; // missing ones last
    return direction * (Number(one.dataset.value) - Number(two.dataset.value));
  };

  const show = (column) => {
    const order = direction ? (units) => [...units].sort(compare(column)) : (units) => units;
    for (const { body, units, plain, last } of blocks) {
      body.append(...(direction ? [...order(plain), ...last] : units).flat());
    }
    if (!single) return;
    const owner = new Map(blocks.map((block) => [block.plain[0] ?? block.last[0], block.body]));
    const full = blocks.filter((block) => block.plain.length);
    const rest = blocks.filter((block) => !block.plain.length);
    const bodies = direction
      ? [...order(full.map((block) => block.plain[0])).map((unit) => owner.get(unit)), ...rest.map((block) => block.body)]
      : blocks.map((block) => block.body);
    table.append(...bodies);
  };

  if (blocks.reduce((sum, block) => sum + block.plain.length, 0) < 2) continue;
  heads.forEach((head, column) => {
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
      show(column);
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

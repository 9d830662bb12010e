// Makes the page of records answer: tables sort and filter, figures are drawn and lead to records,
// what a link names is opened. Without this script the page is whole, and still.
"use strict";

(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  // ------------------------------------------------------------------ sorting

  // What a cell sorts by: a number where it begins with one, else its text; "-" is nothing.
  function sortKey(row, place) {
    const cell = row.cells[place];
    const said = cell.dataset.sort ?? cell.textContent.trim();
    const number = /^[+-]?(\d|\.\d)/.test(said) ? parseFloat(said.replaceAll(",", "")) : NaN;
    return { number, text: said === "-" ? "" : said };
  }

  const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

  // Rows without a value stay last in both directions.
  function compare(first, second, direction) {
    const empty = (key) => Number.isNaN(key.number) && key.text === "";
    if (empty(first) || empty(second)) return empty(first) - empty(second);
    const numbers = !Number.isNaN(first.number) && !Number.isNaN(second.number);
    const order = numbers
      ? first.number - second.number
      : collator.compare(first.text, second.text);
    return direction * order;
  }

  function sort(table, place, direction) {
    const body = table.tBodies[0];
    const keyed = [...body.rows].map((row) => [sortKey(row, place), row]);
    keyed.sort((first, second) => compare(first[0], second[0], direction));
    body.append(...keyed.map(([, row]) => row));
    [...table.tHead.rows[0].cells].forEach((cell, index) => {
      const named = direction > 0 ? "ascending" : "descending";
      cell.setAttribute("aria-sort", index === place ? named : "none");
    });
  }

  function makeSortable(table) {
    if (table.tBodies[0].rows.length < 2) return;
    [...table.tHead.rows[0].cells].forEach((cell, place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...cell.childNodes);
      cell.append(button);
      cell.setAttribute("aria-sort", "none");
      // Of numbers one wants the largest first, of names the first.
      const usual = cell.classList.contains("num") ? -1 : 1;
      button.addEventListener("click", () => {
        const now = cell.getAttribute("aria-sort");
        const same = now === (usual > 0 ? "ascending" : "descending");
        sort(table, place, same ? -usual : usual);
      });
    });
  }

  // ------------------------------------------------------------------ filtering

  const input = document.getElementById("filter");
  const status = document.getElementById("filtered");
  let filtered = null;

  // A row answers to its own words and to those of the heading above its table.
  function collectRows() {
    return all("table.filterable").map((table) => {
      const section = table.closest("section");
      const title = section?.querySelector("h3")?.textContent ?? "";
      const rows = [...table.tBodies[0].rows].map((row) => [
        row,
        `${title} ${row.textContent}`.toLowerCase(),
      ]);
      return { table, section, rows };
    });
  }

  function filterRows() {
    filtered ??= collectRows();
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    let total = 0;
    const sections = new Map();
    for (const { section, rows } of filtered) {
      for (const [row, said] of rows) {
        row.hidden = !words.every((word) => said.includes(word));
        shown += !row.hidden;
        if (section && !row.hidden) sections.set(section, true);
      }
      total += rows.length;
      if (section && !sections.has(section)) sections.set(section, false);
    }
    for (const [section, has] of sections) section.hidden = !has;
    status.textContent = words.length ? `${shown} of ${total} rows` : "";
  }

  // ------------------------------------------------------------------ ways

  // Opens everything around what the address names, so that it can be seen.
  function openTarget() {
    const name = location.hash.slice(1);
    const target = name && document.getElementById(name);
    if (!target) return;
    if (target.closest("[hidden]")) {
      input.value = "";
      filterRows();
    }
    for (let each = target; each; each = each.parentElement) {
      if (each.tagName === "DETAILS") each.open = true;
    }
    stayAt(target);
    const summary = target.querySelector(":scope > summary");
    (summary ?? target).focus?.({ preventScroll: true });
  }

  // Figures above the target may still be drawn and push it away: it is held until the reader moves.
  function stayAt(target) {
    const show = () => target.scrollIntoView({ block: "start" });
    show();
    const watcher = new ResizeObserver(show);
    const free = () => watcher.disconnect();
    watcher.observe(document.querySelector("main"));
    setTimeout(free, 2000);
    ["wheel", "touchmove", "keydown", "pointerdown"].forEach((moved) =>
      addEventListener(moved, free, { once: true, passive: true }),
    );
  }

  function go(anchor) {
    if (location.hash === `#${anchor}`) openTarget();
    else location.hash = anchor;
  }

  function followReading() {
    const ways = new Map(all(".ways a[href]").map((way) => [way.hash.slice(1), way]));
    const parts = all(".part");
    // The part being read is the last that begins above a quarter of the screen, else the first.
    const follow = () => {
      const begun = (part) => part.getBoundingClientRect().top < innerHeight / 4;
      const way = ways.get((parts.findLast(begun) ?? parts[0])?.id);
      if (!way || way.hasAttribute("aria-current")) return;
      ways.forEach((each) => each.removeAttribute("aria-current"));
      way.setAttribute("aria-current", "true");
      // On a narrow screen the list scrolls sideways; the page itself must stay where it is.
      const list = way.closest(".ways");
      list.scrollLeft = way.offsetLeft - list.offsetLeft - 40;
    };
    let isDue = false;
    const soon = () => {
      if (!isDue) requestAnimationFrame(() => { isDue = false; follow(); });
      isDue = true;
    };
    addEventListener("scroll", soon, { passive: true });
    addEventListener("resize", soon);
    follow();
  }

  // ------------------------------------------------------------------ figures

  const drawings = JSON.parse(document.getElementById("figures").textContent);

  async function draw(place) {
    const spec = drawings.specs[place.dataset.figure];
    const options = {
      ast: true, // The page forbids making functions from text.
      actions: false,
      defaultStyle: false,
      renderer: "svg",
      tooltip: { disableDefaultStyle: true },
      config: drawings.style,
    };
    const words = place.innerHTML;
    const label = place.getAttribute("aria-label");
    try {
      const { view } = await window.vegaEmbed(place, spec, options);
      // Vega gives it another role and takes the words away.
      place.setAttribute("role", "img");
      place.setAttribute("aria-label", label);
      place.classList.add("clicks");
      view.addEventListener("click", (event, item) => {
        const record = item?.datum?.record;
        if (typeof record === "string") go(record);
      });
    } catch (fault) {
      place.innerHTML = words; // What the figure shows, in a sentence.
      console.error(`figure ${place.dataset.figure}:`, fault);
    }
  }

  // Drawn when they come near the screen, and all of them before the page is printed.
  function drawFigures() {
    const waiting = new Set(all(".drawing"));
    // Room for axes and legend on top of the plot, so that little moves when it is drawn.
    waiting.forEach((place) => {
      const height = drawings.specs[place.dataset.figure]?.height;
      if (typeof height === "number") place.style.minHeight = `${height + 60}px`;
    });
    const start = (place) => waiting.delete(place) && draw(place);
    const watcher = new IntersectionObserver(
      (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => {
        watcher.unobserve(entry.target);
        start(entry.target);
      }),
      { rootMargin: "600px 0px" },
    );
    waiting.forEach((place) => watcher.observe(place));
    addEventListener("beforeprint", () => [...waiting].forEach(start));
  }

  // ------------------------------------------------------------------ begin

  all("table.data").forEach(makeSortable);
  let soon = 0;
  input.addEventListener("input", () => {
    clearTimeout(soon);
    soon = setTimeout(filterRows, 80);
  });
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    input.value = "";
    filterRows();
  });
  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
    if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    input.focus();
  });
  addEventListener("hashchange", openTarget);
  // A link to where one is already changes nothing, and is followed all the same.
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.('a[href^="#"]');
    if (link && link.hash === location.hash) openTarget();
  });
  followReading();
  if (drawings.specs && window.vegaEmbed) drawFigures();
  openTarget();
  document.documentElement.dataset.ready = "true";
})();

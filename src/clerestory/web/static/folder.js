// The pages of a folder: keys, filters, and the progress of the indexing. Everything works without it, too.
"use strict";

const words = document.querySelector("input[data-slash]");
const isTyping = (target) => Boolean(target.closest?.("input, select, textarea, dialog, [contenteditable]"));
const shots = () => [...document.querySelectorAll(".gallery .view")];

/** The picture above or below: of the nearest row in that direction the one that overlaps most. */
const beside = (from, all, down) => {
  const own = from.getBoundingClientRect();
  const centre = own.left + own.width / 2;
  let best = null, least = Infinity;
  for (const other of all) {
    const box = other.getBoundingClientRect();
    const rows = down ? box.top - own.bottom : own.top - box.bottom;
    if (rows < -1) continue;
    const distance = 10 * rows + Math.abs(box.left + box.width / 2 - centre);
    if (distance < least) [best, least] = [other, distance];
  }
  return best;
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || document.querySelector("dialog[open]")) return;
  if (event.key === "/" && words && !isTyping(event.target)) {
    event.preventDefault();
    words.focus();
    words.select();
    return;
  }
  const all = shots();
  const at = all.indexOf(document.activeElement);
  if (at < 0) {
    // Down from the search box leads to the first picture.
    if (event.key === "ArrowDown" && event.target === words && all.length) {
      event.preventDefault();
      all[0].focus();
    }
    return;
  }
  const next = {
    ArrowLeft: () => all[at - 1], ArrowRight: () => all[at + 1], Home: () => all[0], End: () => all.at(-1),
    ArrowUp: () => beside(all[at], all, false) ?? words, ArrowDown: () => beside(all[at], all, true),
  }[event.key];
  if (!next) return;
  event.preventDefault();
  next()?.focus();
});

// A filter takes effect at once.
document.querySelector("[data-filters]")?.addEventListener("change", (event) => event.target.form.requestSubmit());

// A chosen picture is searched with at once.
document.querySelector("input[data-at-once]")?.addEventListener("change", (event) => {
  if (event.target.files.length) event.target.form.requestSubmit();
});

// A picture is added to the words that are in the search box now.
document.querySelector("form[data-image-query]")?.addEventListener("submit", (event) => {
  const copy = event.target.querySelector("[data-copy-of]");
  if (copy && words) copy.value = words.value;
});

// Once a second while pictures are read.
const indexing = document.querySelector("[data-progress]");
if (indexing) {
  const part = (name) => indexing.querySelector(`[data-${name}]`);
  const began = Number(indexing.dataset.searchable);
  let ticks = 0;
  const tick = async () => {
    let state = null;
    try {
      const response = await fetch(indexing.dataset.progress, { headers: { accept: "application/json" } });
      if (response.ok) state = await response.json();
    } catch { /* the server is gone; it may come back */ }
    if (state) {
      part("text").textContent = state.sentence;
      const bar = indexing.querySelector("progress");
      bar.max = state.total || 1;
      bar.value = state.done;
      if (state.searchable > began) {
        // The first pictures appear by themselves, unless somebody is typing.
        if (!began && !words?.value && !document.querySelector("dialog[open]")) return void location.reload();
        part("again").hidden = false;
      }
      if (!state.running) {
        bar.hidden = true;
        announce(state.sentence);
        return;
      }
    }
    ticks += 1;
    setTimeout(tick, ticks < 60 ? 1000 : 5000);
  };
  setTimeout(tick, 700);
}

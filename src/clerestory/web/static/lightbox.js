// A click on a picture shows it large; the links work without this script, too.
"use strict";

const lightbox = document.getElementById("lightbox");
let large = []; // the links of the pictures that can be turned to
let place = 0;

const showLarge = (index) => {
  place = (index + large.length) % large.length;
  const link = large[place];
  const picture = document.getElementById("lightbox-picture");
  picture.src = link.href;
  picture.alt = link.querySelector("img")?.alt ?? "";
  document.getElementById("lightbox-name").textContent = link.dataset.large;
  const details = lightbox.querySelector("[data-details]");
  details.hidden = !link.dataset.details;
  details.firstElementChild.textContent = link.dataset.details ?? "";
  for (const name of ["like", "add", "original"]) {
    const target = details.querySelector(`[data-${name}]`);
    target.hidden = !link.dataset[name];
    if (link.dataset[name]) target.href = link.dataset[name];
  }
  details.querySelector("[data-tags]").textContent = link.dataset.tags ?? "";
  document.getElementById("lightbox-place").textContent = large.length > 1 ? `${place + 1} of ${large.length}` : "";
};

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[data-large]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return; // a new tab, as with any link
  event.preventDefault();
  large = [...document.querySelectorAll("a[data-large]")];
  for (const button of lightbox.querySelectorAll("[data-turn]")) button.hidden = large.length < 2;
  showLarge(large.indexOf(link));
  lightbox.showModal();
});

lightbox?.addEventListener("click", (event) => {
  const turn = event.target.closest("[data-turn]");
  if (turn) showLarge(place + Number(turn.dataset.turn));
  else if (event.target === lightbox || event.target.closest("[data-close]")) lightbox.close();
});

lightbox?.addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!by || large.length < 2) return;
  event.preventDefault();
  showLarge(place + by);
});

// Esc closes a dialog by itself; the focus goes to the picture that was shown last.
lightbox?.addEventListener("close", () => large[place]?.focus());

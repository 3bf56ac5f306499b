// Progressive enhancement: every page works without it.
"use strict";

document.documentElement.classList.add("scripted");

const announce = (text) => {
  const region = document.getElementById("announcement");
  region.textContent = "";
  // Cleared first, so that screen readers read the same sentence again.
  setTimeout(() => { region.textContent = text; }, 60);
};

// After a swap: announce what happened, and move the focus to the element for the next step.
let focusAfter = null;

document.addEventListener("htmx:before:request", (event) => {
  focusAfter = event.detail.ctx.sourceElement?.dataset?.focusAfter ?? null;
});

// A swap copies the style of an element to the one that replaces it, which the Content-Security-Policy refuses. The pages
// have no inline styles; those that are there come from the browser or an extension.
document.addEventListener("htmx:before:swap", () => {
  for (const element of document.querySelectorAll("[style]")) element.removeAttribute("style");
});

document.addEventListener("htmx:after:swap", () => {
  const swapped = document.querySelector("[data-announcement]");
  if (!swapped) return;
  if (swapped.dataset.address) history.replaceState(null, "", swapped.dataset.address);
  if (swapped.dataset.announcement) announce(swapped.dataset.announcement);
  const selector = focusAfter ?? swapped.dataset.focus;
  focusAfter = null;
  const target = selector && document.querySelector(selector);
  if (target) {
    target.focus();
    if (target.select) target.select();
  }
});

const failed = () => announce("The server did not respond. Is it still running?");
document.addEventListener("htmx:error", failed);

// The response is an error page: show it in place of the whole page.
document.addEventListener("htmx:after:request", (event) => {
  const { ctx } = event.detail;
  if (ctx.response.status < 400) return;
  event.preventDefault();
  document.documentElement.innerHTML = new DOMParser().parseFromString(ctx.text, "text/html").documentElement.innerHTML;
  document.getElementById("main")?.focus();
});

// Enter in a caption accepts that caption.
document.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.isComposing || !event.target.dataset?.enter) return;
  event.preventDefault();
  document.querySelector(event.target.dataset.enter)?.click();
});

/** Saves the captions of a form that are edited and not saved yet; false if the server did not accept them. */
const saveEdits = async (form) => {
  const boxes = form ? [...form.querySelectorAll("input[type=text]")] : [];
  if (boxes.every((box) => box.value === box.defaultValue)) return true;
  const body = new URLSearchParams(new FormData(form));
  body.set("do", "save");
  try {
    const response = await fetch(form.action, { method: "POST", body });
    if (!response.ok) throw new Error(response.statusText);
    for (const box of boxes) box.defaultValue = box.value;
    return true;
  } catch {
    failed();
    return false;
  }
};

// They are saved before the download.
document.addEventListener("click", async (event) => {
  const link = event.target.closest?.("a[data-save]");
  if (!link) return;
  event.preventDefault();
  if (await saveEdits(document.querySelector(link.dataset.save))) location.assign(link.href);
});

// A picture to search with is dropped anywhere on the page, or pasted.
const imageQuery = document.querySelector("form[data-image-query]");
if (imageQuery) {
  const input = imageQuery.querySelector("input[type=file]");
  const button = imageQuery.querySelector("button");
  const search = (event, files) => {
    if (![...(files ?? [])].some((file) => file.type.startsWith("image/"))) return;
    event.preventDefault();
    input.files = files;
    imageQuery.requestSubmit();
  };
  document.addEventListener("drop", (event) => search(event, event.dataTransfer?.files)); // upload.js keeps the page
  document.addEventListener("paste", (event) => search(event, event.clipboardData?.files));
  imageQuery.addEventListener("submit", () => {
    announce("Searching…");
    // Disabled a moment later, because a disabled button is not submitted.
    setTimeout(() => { button.disabled = true; });
  });
  window.addEventListener("pageshow", () => { button.disabled = false; });
}

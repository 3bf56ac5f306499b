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

document.addEventListener("htmx:after:swap", () => {
  const swapped = document.querySelector("[data-announcement]");
  if (!swapped) return;
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

// Captions that are edited and not saved yet are saved before the download.
document.addEventListener("click", async (event) => {
  const link = event.target.closest?.("a[data-save]");
  if (!link) return;
  const form = document.querySelector(link.dataset.save);
  const edited = [...form.querySelectorAll("input[type=text]")].some((box) => box.value !== box.defaultValue);
  if (!edited) return;
  event.preventDefault();
  const body = new URLSearchParams(new FormData(form));
  body.set("do", "save");
  try {
    const response = await fetch(form.action, { method: "POST", body });
    if (!response.ok) throw new Error(response.statusText);
    for (const box of form.querySelectorAll("input[type=text]")) box.defaultValue = box.value;
    location.assign(link.href);
  } catch {
    failed();
  }
});

// Drag and drop of pictures.
for (const form of document.querySelectorAll("form[data-drop]")) {
  const input = form.querySelector("input[type=file]");
  const button = form.querySelector("button");
  const highlight = (on) => (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    form.classList.toggle("over", on);
  };
  form.addEventListener("dragenter", highlight(true));
  form.addEventListener("dragover", highlight(true));
  form.addEventListener("dragleave", highlight(false));
  form.addEventListener("drop", (event) => {
    highlight(false)(event);
    if (!event.dataTransfer?.files.length) return;
    input.files = event.dataTransfer.files;
    form.requestSubmit();
  });
  form.addEventListener("submit", () => {
    const count = input.files.length;
    button.textContent = count === 1 ? "Describing 1 picture…" : `Describing ${count} pictures…`;
    announce(button.textContent);
    // Disabled a moment later, because a disabled button is not submitted.
    setTimeout(() => { button.disabled = true; });
  });
  window.addEventListener("pageshow", () => { button.disabled = false; button.textContent = "Suggest captions"; });
}

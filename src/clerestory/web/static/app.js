// Makes the pages a little handier. Everything works without it.
"use strict";

document.documentElement.classList.add("scripted");

const say = (words) => {
  const place = document.getElementById("said");
  place.textContent = "";
  // Cleared first, so that the same sentence twice is read out twice.
  setTimeout(() => { place.textContent = words; }, 60);
};

// After a part of the page was replaced: tell what happened, and put the focus where the work goes on.
let focusAfter = null;

document.addEventListener("htmx:before:request", (event) => {
  focusAfter = event.detail.ctx.sourceElement?.dataset?.focusAfter ?? null;
});

document.addEventListener("htmx:after:swap", () => {
  const part = document.querySelector("[data-say]");
  if (!part) return;
  if (part.dataset.say) say(part.dataset.say);
  const wanted = focusAfter ?? part.dataset.focus;
  focusAfter = null;
  const target = wanted && document.querySelector(wanted);
  if (target) {
    target.focus();
    if (target.select) target.select();
  }
});

const failed = () => say("That did not reach the server. Is it still running?");
document.addEventListener("htmx:error", failed);

// An error page instead of the part that was asked for: show it whole.
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

// What was typed and not yet kept is kept before the download begins.
document.addEventListener("click", async (event) => {
  const link = event.target.closest?.("a[data-keep]");
  if (!link) return;
  const form = document.querySelector(link.dataset.keep);
  const edited = [...form.querySelectorAll("input[type=text]")].some((box) => box.value !== box.defaultValue);
  if (!edited) return;
  event.preventDefault();
  const body = new URLSearchParams(new FormData(form));
  body.set("do", "keep");
  try {
    const answer = await fetch(form.action, { method: "POST", body });
    if (!answer.ok) throw new Error(answer.statusText);
    for (const box of form.querySelectorAll("input[type=text]")) box.defaultValue = box.value;
    location.assign(link.href);
  } catch {
    failed();
  }
});

// Pictures may be dropped into the frame.
for (const form of document.querySelectorAll("form[data-drop]")) {
  const input = form.querySelector("input[type=file]");
  const button = form.querySelector("button");
  const over = (yes) => (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    form.classList.toggle("over", yes);
  };
  form.addEventListener("dragenter", over(true));
  form.addEventListener("dragover", over(true));
  form.addEventListener("dragleave", over(false));
  form.addEventListener("drop", (event) => {
    over(false)(event);
    if (!event.dataTransfer?.files.length) return;
    input.files = event.dataTransfer.files;
    form.requestSubmit();
  });
  form.addEventListener("submit", () => {
    const count = input.files.length;
    button.textContent = count === 1 ? "Looking at 1 picture…" : `Looking at ${count} pictures…`;
    say(button.textContent);
    // Disabled a moment later, so that the button itself is still part of what is sent.
    setTimeout(() => { button.disabled = true; });
  });
  window.addEventListener("pageshow", () => { button.disabled = false; button.textContent = "Suggest captions"; });
}

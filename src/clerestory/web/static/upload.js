// Uploads: each picture in a request of its own, so that any number of them fits and every one is counted.
"use strict";

const dropForm = document.querySelector("form[data-drop]");
const hasFiles = (event) => Boolean(event.dataTransfer?.types.includes("Files"));

// A file that is dropped beside the frame must not replace the page.
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  window.addEventListener(kind, (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    const takesFiles = Boolean(dropForm ?? imageQuery);
    if (!takesFiles) event.dataTransfer.dropEffect = "none";
    // A pointer that leaves the window has no related target.
    const over = kind !== "drop" && !(kind === "dragleave" && event.relatedTarget === null);
    document.body.classList.toggle("dropping", over && takesFiles);
  });
}

/** The files of a drop with their paths; folders are read to the bottom. */
const droppedFiles = async (transfer) => {
  // Asked for at once: the transfer is empty after the first await.
  const dropped = [...transfer.items].filter((item) => item.kind === "file").map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  const found = [];
  const read = async (entry, path) => {
    if (entry instanceof File) return void found.push({ file: entry, name: entry.name });
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      return void found.push({ file, name: path + file.name });
    }
    const reader = entry.createReader();
    for (;;) { // each call gives at most 100 entries
      const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!some.length) return;
      for (const each of some) await read(each, `${path}${entry.name}/`);
    }
  };
  for (const entry of dropped) await read(entry, "");
  return found;
};

const chosenFiles = (list) => [...list].map((file) => ({ file, name: file.webkitRelativePath || file.name }));
const pause = (seconds) => new Promise((resolve) => { setTimeout(resolve, 1000 * seconds); });
const pictures = (count) => (count === 1 ? "1 picture" : `${count.toLocaleString("en")} pictures`);

const timeLeft = (seconds) => {
  if (seconds < 60) return "less than a minute left";
  const minutes = Math.round(seconds / 60);
  return minutes < 100 ? `about ${minutes} min left` : `about ${Math.round(minutes / 60)} h left`;
};

if (dropForm) {
  const images = dropForm.querySelector("#images");
  const folder = dropForm.querySelector("#folder");
  const panel = document.querySelector("[data-uploading]");
  const part = (name) => panel.querySelector(`[data-${name}]`);
  const maxBytes = Number(dropForm.dataset.maxBytes);
  const maxImages = Number(dropForm.dataset.maxImages);
  const upload = crypto.randomUUID?.() ?? String(Math.random());
  const waiting = [];
  let state = { more: dropForm.getAttribute("action"), review: "", room: 1 };
  let running = false, stopped = false, done = 0, accepted = 0, total = 0, began = 0;

  if (!("webkitdirectory" in folder)) dropForm.querySelector("[data-folder]").hidden = true;
  // One of the two is enough.
  for (const input of [images, folder]) input.addEventListener("change", () => { images.required = !folder.files.length; });

  const show = (name) => {
    const refused = done - accepted;
    const seconds = done ? ((performance.now() - began) / 1000 / done) * (total - done) : 0;
    panel.querySelector("progress").max = total;
    panel.querySelector("progress").value = done;
    part("count").textContent = `${done.toLocaleString("en")} of ${total.toLocaleString("en")} done`
      + (refused ? ` · ${refused.toLocaleString("en")} not read` : "") + (done ? ` · ${timeLeft(seconds)}` : "");
    part("name").textContent = name;
  };

  /** Shows a problem; true once the person wants to go on, false if they stop. */
  const askToGoOn = (problem) => {
    part("problem").hidden = part("go-on").hidden = false;
    part("problem").lastElementChild.textContent = problem;
    announce(problem);
    part("go-on").focus();
    return new Promise((resolve) => {
      const decide = (goOn) => () => {
        part("problem").hidden = part("go-on").hidden = true;
        resolve(goOn);
      };
      part("go-on").onclick = decide(true);
      part("stop").onclick = decide(false);
    }).finally(() => { part("stop").onclick = stop; });
  };
  const stop = () => { stopped = true; };
  part("stop").onclick = stop;

  const send = async (group, bytes) => {
    const body = new FormData();
    body.append("upload", upload);
    for (const { file, name } of group) body.append("images", file.slice(0, bytes), name);
    for (;;) {
      let problem = "The server did not respond. Is it still running?";
      try {
        const response = await fetch(state.more, { method: "POST", body, headers: { accept: "application/json" } });
        if (response.ok) return await response.json();
        if (response.status === 429 && !stopped) {
          await pause(Number(response.headers.get("retry-after")) || 2);
          continue;
        }
        problem = (await response.json()).error.message;
      } catch { /* the server is gone, or the file is */ }
      if (stopped || !(await askToGoOn(problem))) return null;
    }
  };

  const run = async () => {
    running = true;
    began = performance.now();
    dropForm.hidden = true;
    panel.hidden = false;
    panel.querySelector("h2").focus();
    announce(`Describing ${pictures(total)}.`);
    while (waiting.length && !stopped) {
      // One byte too many is enough for the server to name a file that is too large; nothing at all, for one too many.
      const group = waiting.splice(0, state.room ? 1 : maxImages);
      show(group[0].name);
      const answer = await send(group, state.room ? maxBytes + 1 : 0);
      if (!answer) break;
      state = answer;
      const quarter = Math.floor((4 * done) / total);
      done += group.length;
      accepted += answer.accepted;
      show(group[0].name);
      if (Math.floor((4 * done) / total) > quarter && done < total) announce(part("count").textContent);
    }
    running = false;
    if (!state.review) return location.reload();
    await saveEdits(document.getElementById("captions"));
    location.assign(state.review);
  };

  const add = (files) => {
    if (!files.length) return;
    files.sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
    waiting.push(...files);
    total += files.length;
    if (!running) run();
  };

  window.addEventListener("drop", async (event) => { if (hasFiles(event)) add(await droppedFiles(event.dataTransfer)); });
  window.addEventListener("paste", (event) => add(chosenFiles(event.clipboardData?.files ?? [])));
  window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); }); // back, after an upload
  window.addEventListener("beforeunload", (event) => { if (running) event.preventDefault(); });
  dropForm.addEventListener("submit", (event) => {
    event.preventDefault();
    add([...chosenFiles(images.files), ...chosenFiles(folder.files)]);
  });
}

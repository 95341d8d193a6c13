"use strict";
(() => {
  const AT_ONCE = 4; // requests; more would only wait at the server
  const TRIES = 60;
  const SHOWN = 3; // classes, and training images
  const byId = (id) => document.getElementById(id);
  const maxBytes = Number(document.body.dataset.maxBytes);
  const queue = [];
  let running = 0, asked = 0, done = 0, unsure = 0, failed = 0, last = "";

  const percent = (share) => (share > 0.9995 && share < 1 ? "> 99.9 %" : `${(100 * share).toFixed(1)} %`);
  const sleep = (seconds) => new Promise((wake) => setTimeout(wake, 1000 * seconds));
  const plural = (count, one, many) => `${count} ${count === 1 ? one : many}`;

  function make(tag, text, className) {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (className) element.className = className;
    return element;
  }

  function errorOf(file) {
    if (file.isFolder) return "a folder; open it and choose the images in it";
    if (file.type && !file.type.startsWith("image/")) return `not an image, but ${file.type}`;
    if (file.size > maxBytes) return `larger than ${document.body.dataset.maxMb} MB, which is what is accepted`;
    return file.size ? null : "empty";
  }

  function addCard(file) {
    const card = byId("card").content.firstElementChild.cloneNode(true);
    card.classList.add("waiting");
    card.querySelector(".file bdi").textContent = file.name;
    byId("results").append(card);
    return card;
  }

  function showPicture(card, file) {
    const image = card.querySelector("img");
    image.alt = file.name;
    image.addEventListener("load", () => {
      image.classList.toggle("pixels", Math.max(image.naturalWidth, image.naturalHeight) <= 32);
    });
    image.addEventListener("error", () => {
      URL.revokeObjectURL(image.src);
      image.replaceWith(make("span", "no preview", "none"));
    });
    image.src = URL.createObjectURL(file);
  }

  function showTop(card, top) {
    for (const { label, probability } of top) {
      const item = make("li"), bar = make("span", undefined, "bar"), name = make("span");
      name.append(make("bdi", label));
      const filled = make("i");
      filled.style.width = `${100 * probability}%`;
      bar.append(filled);
      bar.setAttribute("aria-hidden", "true");
      item.append(name, make("span", percent(probability), "share"), bar);
      card.querySelector(".top").append(item);
    }
  }

  function neighbourOf({ id, label, similarity, thumbnail }) {
    const item = make("li"), figure = make("figure"), caption = make("figcaption");
    if (thumbnail) {
      const image = make("img");
      image.alt = id;
      image.addEventListener("load", () => image.classList.toggle("pixels", image.naturalWidth <= 32));
      image.src = thumbnail;
      figure.append(image);
    } else {
      figure.append(make("span", "image not at hand", "none"));
    }
    caption.append(make("bdi", label), make("span", ` (${similarity.toFixed(2)})`, "whole muted"));
    figure.title = id;
    figure.append(caption);
    item.append(figure);
    return item;
  }

  function showAnswer(card, file, { status, label, top, neighbours }) {
    card.classList.remove("waiting");
    card.classList.add(status);
    const heading = card.querySelector(".label");
    heading.replaceChildren(status === "unsure" ? "unsure" : make("bdi", label));
    showTop(card, top);
    if (neighbours.length) {
      card.querySelector(".near").hidden = false;
      card.querySelector(".gallery").append(...neighbours.map(neighbourOf));
    }
    unsure += status === "unsure";
    last = `${file.name}: ${status === "unsure" ? "unsure" : `${label}, ${percent(top[0].probability)}`}. `;
  }

  function showError(card, file, problem) {
    card.classList.remove("waiting");
    card.classList.add("fault");
    card.querySelector(".label").textContent = `No label: ${problem}`;
    const image = card.querySelector("img");
    if (image && !image.getAttribute("src")) image.replaceWith(make("span", "no preview", "none"));
    failed += 1;
    last = `${file.name}: no label, ${problem}. `;
  }

  function showProgress() {
    byId("progress").max = Math.max(1, asked);
    byId("progress").value = done;
    byId("progress-line").hidden = done === asked;
    byId("results-section").hidden = byId("clear").hidden = asked === 0;
    const notes = [unsure && `${unsure} unsure`, failed && `${failed} without a label`].filter(Boolean);
    const total = `${done} of ${plural(asked, "image", "images")} done${notes.length ? `, ${notes.join(", ")}` : ""}.`;
    byId("status").textContent = asked ? (asked === 1 || done < asked ? last : "") + total : "";
  }

  /** Send an image and return the answer; a server that has too much to do is asked again. */
  async function send(file) {
    for (let tries = 1; ; tries += 1) {
      let response;
      try {
        response = await fetch(`api/predict?top=${SHOWN}&neighbours=${SHOWN}`, {
          method: "POST",
          headers: { "Content-Type": file.type || "application/octet-stream" },
          body: file,
        });
      } catch {
        throw new Error("the server does not answer, or the file cannot be read; is make serve still running?");
      }
      if ((response.status === 429 || response.status === 503) && tries < TRIES) {
        await sleep(Number(response.headers.get("Retry-After")) || 1);
        continue;
      }
      const content = await response.json().catch(() => ({}));
      if (!response.ok) throw new Error(content.detail || `the server answered ${response.status}`);
      return content;
    }
  }

  async function work() {
    running += 1;
    while (queue.length) {
      const { file, card } = queue.shift();
      let answer, problem = errorOf(file);
      if (!problem) {
        showPicture(card, file);
        answer = await send(file).catch((error) => void (problem = error.message));
      }
      if (!card.isConnected) continue; // the results were removed meanwhile
      if (problem) showError(card, file, problem);
      else showAnswer(card, file, answer);
      done += 1;
      showProgress();
    }
    running -= 1;
  }

  function add(files) {
    for (const file of files) queue.push({ file, card: addCard(file) });
    asked += files.length;
    showProgress();
    while (running < AT_ONCE && queue.length) work();
  }

  /** The files of a drop; a folder comes as a file that cannot be read. */
  function dropped(transfer) {
    const files = [];
    for (const item of transfer.items) {
      const file = item.kind === "file" ? item.getAsFile() : null;
      if (!file) continue;
      file.isFolder = item.webkitGetAsEntry?.()?.isDirectory ?? false;
      files.push(file);
    }
    return files;
  }

  byId("files").addEventListener("change", (event) => {
    add([...event.target.files]);
    event.target.value = ""; // so that the same file can be chosen again
  });
  byId("clear").addEventListener("click", () => {
    queue.length = 0;
    asked = done = unsure = failed = 0;
    last = "";
    for (const image of document.querySelectorAll(".shot img[src]")) URL.revokeObjectURL(image.src);
    byId("results").replaceChildren();
    showProgress();
    byId("files").focus();
  });
  addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("over");
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("over");
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    add(dropped(event.dataTransfer));
  });
  addEventListener("paste", (event) => add([...event.clipboardData.files]));
})();

// A picture in the grid: first haze, then a preview that clears, then itself.

import { placeholder } from "./blurhash.js";

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

export class Card {
  picture = null; // what the API tells of it, once it is finished
  begun = false; // whether it is being drawn
  url = null; // its original, once it is loaded

  constructor(prompt) {
    this.root = element("li", "card");
    this.frame = element("div", "frame");
    this.title = element("p", "title", prompt);
    this.title.title = prompt;
    this.root.append(this.frame, this.title);
  }

  /** Waiting to be drawn, or being drawn; `of` is how many pictures its job has left. */
  emerge(cancel, { begun, of }) {
    this.begun = begun;
    this.preview = element("img", "preview");
    this.preview.alt = "";
    this.preview.hidden = true;
    this.bar = element("div", "bar");
    this.bar.append(element("span"));
    this.bar.setAttribute("role", "progressbar");
    this.bar.setAttribute("aria-label", `Drawing ${this.title.textContent}`);
    this.bar.setAttribute("aria-valuemin", "0");
    this.step = element("p", "step", begun ? "Begun" : "Waiting for its turn");
    const button = element("button", "cancel", of > 1 ? `Cancel all ${of}` : "Cancel");
    button.setAttribute("aria-label", `${button.textContent}: ${this.title.textContent}`);
    button.type = "button";
    button.addEventListener("click", () => {
      button.disabled = true;
      cancel();
    });
    this.frame.replaceChildren(element("div", "haze"), this.preview, this.bar, this.step, button);
  }

  advance({ step, steps, preview }) {
    if (!this.bar) return;
    this.begun = true;
    this.frame.style.setProperty("--left", String(1 - step / steps));
    this.bar.setAttribute("aria-valuemax", steps);
    this.bar.setAttribute("aria-valuenow", step);
    this.step.textContent = step < steps ? `Step ${step} of ${steps}` : "Finishing";
    if (preview) {
      this.preview.src = preview;
      this.preview.hidden = false;
    }
  }

  /** So many of the pictures asked for come before it. */
  wait(before) {
    this.step.textContent = before ? `Waiting, ${before} before it` : "Waiting, the next";
  }

  /** Finished: the picture fades in over what was there. */
  async show(picture, api, { open, favour }) {
    this.picture = picture;
    const frame = element("button", "frame");
    frame.type = "button";
    frame.setAttribute("aria-label", `Look at: ${picture.prompt}`);
    frame.addEventListener("click", () => open(this));
    frame.append(...[...this.frame.children].filter((child) => child.matches(".haze, .preview")));
    this.frame.replaceWith(frame);
    this.frame = frame;
    this.bar = null;
    this.star = element("button", "star");
    this.star.type = "button";
    this.star.setAttribute("aria-label", `Favourite: ${picture.prompt}`);
    this.star.addEventListener("click", () => favour(this, !this.picture.favourite));
    frame.after(this.star);
    this.favoured(picture.favourite);
    const blurred = !frame.children.length && picture.blurhash && placeholder(picture.blurhash);
    if (blurred) frame.append(blurred);
    const image = element("img", "picture");
    image.alt = picture.prompt;
    frame.append(image);
    const thumbnail = picture.variants.find(({ name }) => name === "thumbnail");
    image.src = await api.pictureUrl(this.#path(thumbnail ?? this.original));
    await image.decode().catch(() => {});
    image.classList.add("shown");
    setTimeout(() => frame.replaceChildren(image), 900);
  }

  favoured(favourite) {
    this.picture.favourite = favourite;
    this.star.textContent = favourite ? "★" : "☆";
    this.star.setAttribute("aria-pressed", String(favourite));
  }

  get original() {
    return this.picture.variants.find(({ name }) => name === "original") ?? this.picture.variants[0];
  }

  #path({ name }) {
    return `v1/images/${this.picture.id}/${name}`;
  }

  async originalUrl(api) {
    this.url ??= await api.pictureUrl(this.#path(this.original));
    return this.url;
  }

  fail(why) {
    this.bar = null;
    const button = element("button", "dismiss", "Dismiss");
    button.type = "button";
    button.addEventListener("click", () => this.leave());
    this.frame.replaceChildren(element("p", "why", why), button);
  }

  leave() {
    this.root.classList.add("gone");
    setTimeout(() => this.remove(), 350);
  }

  /** At once; what its pictures took is freed. */
  remove() {
    this.root.remove();
    const shown = this.root.querySelector(".picture")?.src;
    for (const url of [shown, this.url]) if (url) URL.revokeObjectURL(url);
  }
}

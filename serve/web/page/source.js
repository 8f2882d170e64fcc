// The picture that is drawn from: dropped, pasted, chosen, or one of the gallery's.

import { MaskEditor } from "./mask-editor.js";

const MOST_PIXELS = 4 * 1024 * 1024; // models draw at most as many; a phone's photograph has more
const SENT_AS_IT_IS = new Set(["image/png", "image/jpeg", "image/webp"]);
const WHOLE_STRENGTH = "0.8";
const MASKED_STRENGTH = "1";

const byId = (id) => document.getElementById(id);

export class NoPicture extends Error {}

export class Source {
  #file = null;
  #url = null;
  #size = null; // { width, height }, upright
  #mask = null; // { steps, file }
  #editor = new MaskEditor();
  #possible = true;

  constructor() {
    byId("source-use").onclick = () => this.use(!this.#used);
    byId("source-mask").onclick = () => this.#edit();
    byId("source-remove").onclick = () => {
      this.remove();
      byId("prompt").focus();
    };
    byId("strength").oninput = () => this.#tell();
  }

  /** Whether the chosen model draws from pictures. */
  set possible(yes) {
    this.#possible = yes;
    this.#tell();
  }

  /** Take this file; `used` says whether the next request draws from it. Throws NoPicture. */
  async take(file, { used }) {
    const picture = await createImageBitmap(file).catch(() => null);
    if (!picture) throw new NoPicture("This file is no picture that this browser can read.");
    const small = await smaller(file, picture);
    picture.close();
    this.remove();
    this.#file = small.file;
    this.#size = small.size;
    this.#url = URL.createObjectURL(this.#file);
    byId("source-image").src = this.#url;
    byId("source").hidden = false;
    this.#setStrength(WHOLE_STRENGTH);
    this.use(used);
  }

  remove() {
    if (this.#url) URL.revokeObjectURL(this.#url);
    this.#file = this.#url = this.#mask = null;
    byId("source").hidden = true;
    byId("source-image").removeAttribute("src");
    this.#showMask();
  }

  /** What a request sends: { strength, files }, or null if it draws from nothing. */
  get asked() {
    if (!this.#file || !this.#used || !this.#possible) return null;
    const files = { image: this.#file };
    if (this.#mask?.file) files.mask = this.#mask.file;
    return { strength: Number(byId("strength").value), files };
  }

  get #used() {
    return byId("source-use").getAttribute("aria-pressed") === "true";
  }

  /** Whether the next request draws from it. */
  use(yes) {
    byId("source-use").setAttribute("aria-pressed", String(yes));
    this.#tell();
  }

  #setStrength(value) {
    byId("strength").value = value;
    this.#tell();
  }

  #tell() {
    const active = this.#used && this.#possible;
    byId("source-use").disabled = !this.#possible;
    byId("source-use").title = this.#possible ? "" : "This model does not draw from pictures";
    for (const id of ["strength", "source-mask"]) byId(id).disabled = !active;
    byId("source").classList.toggle("idle", !active);
    byId("strength-told").textContent = `${Math.round(Number(byId("strength").value) * 100)} %`;
  }

  async #edit() {
    const before = Boolean(this.#mask?.file);
    const marked = await this.#editor.edit({
      url: this.#url,
      ...this.#size,
      steps: this.#mask?.steps ?? [],
    });
    byId("source-mask").focus();
    if (!marked) return;
    this.#mask = marked;
    const now = Boolean(marked.file);
    if (now !== before) this.#setStrength(now ? MASKED_STRENGTH : WHOLE_STRENGTH);
    this.#showMask();
  }

  #showMask() {
    const marked = Boolean(this.#mask?.file);
    byId("source-mask").textContent = marked ? "Change the mask" : "Mask a part";
    byId("source-masked").hidden = !marked;
    if (marked) {
      const shown = byId("source-masked");
      const { width, height } = byId("mask-canvas");
      Object.assign(shown, { width, height });
      shown.getContext("2d").drawImage(byId("mask-canvas"), 0, 0);
    }
  }
}

/** The file as it can be sent, and its size; a large one is shrunk. */
async function smaller(file, picture) {
  const scale = Math.min(1, Math.sqrt(MOST_PIXELS / (picture.width * picture.height)));
  const size = {
    width: Math.max(1, Math.round(picture.width * scale)),
    height: Math.max(1, Math.round(picture.height * scale)),
  };
  if (scale === 1 && SENT_AS_IT_IS.has(file.type)) return { file, size };
  const canvas = new OffscreenCanvas(size.width, size.height);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0, size.width, size.height);
  return { file: await canvas.convertToBlob({ type: "image/png" }), size };
}

// The brush that marks a part of the source picture, by mouse, finger, pen or keys.

import { Mask } from "./mask.js";

const ERASER_BUTTON = 5; // of a pen
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const byId = (id) => document.getElementById(id);

export class MaskEditor {
  #dialog = byId("mask");
  #canvas = byId("mask-canvas");
  #at = [0, 0]; // the brush, in pixels of the picture
  #mask = null;
  #drawing = false;

  constructor() {
    const canvas = this.#canvas;
    canvas.onpointerdown = (event) => this.#begin(event);
    canvas.onpointermove = (event) => this.#move(event);
    canvas.onpointerup = canvas.onpointercancel = () => (this.#drawing = false);
    byId("mask-paint").onclick = () => this.#erase(false);
    byId("mask-erase").onclick = () => this.#erase(true);
    byId("mask-size").oninput = () => this.#showBrush();
    byId("mask-undo").onclick = () => this.#step(() => this.#mask.undo());
    byId("mask-clear").onclick = () => this.#step(() => this.#mask.clear());
    byId("mask-invert").onclick = () => this.#step(() => this.#mask.invert());
    byId("mask-cancel").onclick = () => this.#dialog.close();
    this.#dialog.onkeydown = (event) => this.#key(event);
  }

  /**
   * Marks a part of the picture of that URL and size, beginning with earlier `steps`.
   * Resolves to { steps, file }, whose file is null where nothing is marked; to null if given up.
   */
  edit({ url, width, height, steps }) {
    this.#mask = new Mask(this.#canvas, width, height);
    this.#mask.restore(steps);
    this.#at = [width / 2, height / 2];
    byId("mask-image").src = url;
    byId("mask-stage").style.setProperty("--shape", String(width / height));
    this.#erase(false);
    this.#step(() => {});
    return new Promise((resolve) => {
      let marked = null;
      byId("mask-done").onclick = async () => {
        marked = { steps: this.#mask.steps, file: await this.#mask.file() };
        this.#dialog.close();
      };
      this.#dialog.onclose = () => resolve(marked);
      this.#dialog.showModal();
      this.#canvas.focus();
    });
  }

  get #size() {
    const { width, height } = this.#canvas;
    return (Number(byId("mask-size").value) / 100) * Math.max(width, height);
  }

  get #erases() {
    return byId("mask-erase").getAttribute("aria-pressed") === "true";
  }

  #begin(event) {
    if (!event.isPrimary || ![0, ERASER_BUTTON].includes(event.button)) return;
    event.preventDefault();
    this.#canvas.focus();
    this.#canvas.setPointerCapture(event.pointerId);
    this.#drawing = true;
    this.#point(event);
    const erases = this.#erases || event.button === ERASER_BUTTON;
    this.#step(() => this.#mask.begin(this.#size, erases, this.#at));
  }

  #move(event) {
    if (!event.isPrimary) return;
    const passed = this.#drawing ? (event.getCoalescedEvents?.() ?? []) : [];
    for (const each of passed.length ? passed : [event]) {
      this.#point(each);
      if (this.#drawing) this.#mask.extend(this.#at);
    }
  }

  #point({ clientX, clientY }) {
    const { left, top, width, height } = this.#canvas.getBoundingClientRect();
    const across = ((clientX - left) / width) * this.#canvas.width;
    const down = ((clientY - top) / height) * this.#canvas.height;
    this.#at = [across, down];
    this.#showBrush();
  }

  #key(event) {
    const { key } = event;
    if (event.altKey || (event.target.matches("input") && key.startsWith("Arrow"))) return;
    if ((event.ctrlKey || event.metaKey) && key === "z") {
      if (this.#mask.undoable) this.#step(() => this.#mask.undo());
    } else if (event.ctrlKey || event.metaKey) return;
    else if (key === "[" || key === "]") this.#resize(key === "]" ? 1 : -1);
    else if (key === "e") this.#erase(!this.#erases);
    else if (key in ARROWS) this.#walk(ARROWS[key]);
    else if (key === " " && event.target === this.#canvas) {
      this.#step(() => this.#mask.begin(this.#size, this.#erases, this.#at));
    } else return;
    event.preventDefault();
  }

  #walk([across, down]) {
    const { width, height } = this.#canvas;
    const [x, y] = this.#at;
    const by = this.#size / 2;
    const within = (value, most) => Math.min(most, Math.max(0, value));
    this.#at = [within(x + across * by, width), within(y + down * by, height)];
    this.#showBrush();
  }

  #resize(by) {
    const slider = byId("mask-size");
    slider.value = String(Number(slider.value) + by * Number(slider.step));
    this.#showBrush();
  }

  #erase(yes) {
    byId("mask-erase").setAttribute("aria-pressed", String(yes));
    byId("mask-paint").setAttribute("aria-pressed", String(!yes));
  }

  #step(change) {
    change();
    byId("mask-undo").disabled = !this.#mask.undoable;
    this.#showBrush();
  }

  #showBrush() {
    const { width, height } = this.#canvas;
    const { style } = byId("mask-brush");
    style.setProperty("left", `${(this.#at[0] / width) * 100}%`);
    style.setProperty("top", `${(this.#at[1] / height) * 100}%`);
    style.setProperty("width", `${(this.#size / width) * 100}%`);
  }
}

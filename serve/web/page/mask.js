// What is drawn anew of a picture: strokes, which can be taken back one by one.

const MARKED = 128; // alpha from which a pixel counts
const COLOUR = "#c2621b"; // the page shows it half transparent

export class Mask {
  #steps = []; // a stroke, or "invert" or "clear"

  /** `canvas` gets the picture's size, and shows what is marked. */
  constructor(canvas, width, height) {
    this.canvas = canvas;
    canvas.width = width;
    canvas.height = height;
    this.context = canvas.getContext("2d", { willReadFrequently: true });
  }

  /** A stroke of so many pixels across begins at [x, y]. */
  begin(size, erases, point) {
    this.#add({ size, erases, points: [point] });
  }

  extend(point) {
    const stroke = this.#steps.at(-1);
    stroke.points.push(point);
    this.#line(stroke, stroke.points.length - 2);
  }

  invert() {
    this.#add("invert");
  }

  clear() {
    this.#add("clear");
  }

  undo() {
    this.#steps.pop();
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    for (const step of this.#steps) this.#draw(step);
  }

  get undoable() {
    return this.#steps.length > 0;
  }

  /** The steps so far; `restore` brings a mask back to them. */
  get steps() {
    return this.#steps.map((step) => (step.points ? { ...step, points: [...step.points] } : step));
  }

  restore(steps) {
    this.#steps = [];
    for (const step of steps) this.#add(step);
  }

  /** As the API takes it: a PNG that is transparent where it is marked; null if nothing is. */
  async file() {
    const { width, height } = this.canvas;
    const pixels = this.context.getImageData(0, 0, width, height);
    let marked = false;
    for (let alpha = 3; alpha < pixels.data.length; alpha += 4) {
      const anew = pixels.data[alpha] >= MARKED;
      marked ||= anew;
      pixels.data[alpha] = anew ? 0 : 255;
    }
    if (!marked) return null;
    const file = new OffscreenCanvas(width, height);
    file.getContext("2d").putImageData(pixels, 0, 0);
    return file.convertToBlob({ type: "image/png" });
  }

  #add(step) {
    this.#steps.push(step);
    this.#draw(step);
  }

  #draw(step) {
    const { width, height } = this.canvas;
    if (step === "clear") {
      this.context.clearRect(0, 0, width, height);
    } else if (step === "invert") {
      this.#paint("xor");
      this.context.fillRect(0, 0, width, height);
    } else {
      const [[x, y]] = step.points;
      this.#paint(step.erases ? "destination-out" : "source-over");
      this.context.beginPath();
      this.context.arc(x, y, step.size / 2, 0, 2 * Math.PI);
      this.context.fill();
      for (let from = 0; from < step.points.length - 1; from++) this.#line(step, from);
    }
  }

  #line({ size, erases, points }, from) {
    this.#paint(erases ? "destination-out" : "source-over");
    this.context.lineWidth = size;
    this.context.beginPath();
    this.context.moveTo(...points[from]);
    this.context.lineTo(...points[from + 1]);
    this.context.stroke();
  }

  #paint(how) {
    this.context.globalCompositeOperation = how;
    this.context.fillStyle = this.context.strokeStyle = COLOUR;
    this.context.lineCap = "round";
  }
}

// What is asked for: a prompt and its options, as typed, or as a picture or its file tells them.

import { Refused } from "./api.js";
import { NoPicture, Source } from "./source.js";

const SUGGESTIONS = [
  "a red heart",
  "a panda",
  "a yellow star",
  "a pink elephant",
  "a rocket",
  "a sunflower",
  "an apple on a yellow background",
];
const SHAPES = [[1, 1], [3, 4], [4, 3], [9, 16], [16, 9]];

const byId = (id) => document.getElementById(id);
const value = (id) => byId(id).value.trim() || undefined;
const number = (id) => (value(id) === undefined ? undefined : Number(value(id)));

export class Composer {
  #models = new Map(); // id → what the API tells of it
  #source = new Source();

  /** `submit(request, source)` asks the server for pictures; what it throws is shown. */
  constructor(api, submit) {
    this.api = api;
    this.#offerModels().catch(() => {}); // without them the server's defaults can be drawn
    const form = byId("composer");
    form.onsubmit = async (event) => {
      event.preventDefault();
      const button = form.querySelector(".primary");
      button.disabled = true;
      await this.#showing(() => submit(this.request, this.#source.asked));
      button.disabled = false;
    };
    byId("prompt").onkeydown = (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      form.requestSubmit();
    };
    byId("draw-model").onchange = () => this.#offer(this.#models.get(byId("draw-model").value));
    byId("suggestions").replaceChildren(...SUGGESTIONS.map(suggestion));
    byId("file").onchange = () => {
      const [file] = byId("file").files;
      byId("file").value = "";
      if (file) this.#take(file);
    };
    document.ondragover = (event) => event.preventDefault();
    document.ondrop = (event) => this.#receive(event, event.dataTransfer);
    document.onpaste = (event) => this.#receive(event, event.clipboardData);
  }

  /** The body of `POST /v1/jobs`. */
  get request() {
    const lora = value("lora");
    return {
      prompt: byId("prompt").value,
      negative_prompt: value("negative"),
      model: value("draw-model"),
      size: value("size"),
      n: number("n"),
      num_inference_steps: number("steps"),
      guidance_scale: number("guidance"),
      scheduler: value("scheduler"),
      seed: value("seed") === undefined ? undefined : BigInt(value("seed")),
      loras: lora && [{ name: lora, scale: number("lora-scale") ?? 1 }],
      hires: number("hires") && { scale: number("hires") },
      output_format: value("format"),
    };
  }

  /** One picture by these parameters, which are those of a job; what is left out is the default. */
  fill(parameters) {
    const [lora] = parameters.loras ?? [];
    if (this.#models.has(parameters.model)) {
      byId("draw-model").value = parameters.model;
      this.#offer(this.#models.get(parameters.model));
    }
    const fields = {
      prompt: parameters.prompt,
      negative: parameters.negative_prompt,
      size: parameters.width && `${parameters.width}x${parameters.height}`,
      n: 1,
      steps: parameters.num_inference_steps,
      guidance: parameters.guidance_scale,
      scheduler: parameters.scheduler,
      seed: parameters.seed,
      lora: lora?.name,
      "lora-scale": lora?.scale,
      hires: parameters.hires?.scale,
      format: parameters.output_format,
    };
    for (const [id, told] of Object.entries(fields)) {
      byId(id).value = told ?? "";
      if (byId(id).selectedIndex === -1) byId(id).selectedIndex = 0; // none of those offered
    }
    byId("options").open = true;
    this.#show();
  }

  /** The next pictures are drawn from this one of the gallery. */
  async drawFrom({ id, prompt }) {
    await this.#showing(async () => {
      await this.#source.take(await this.api.file(`v1/images/${id}/original`), { used: true });
      byId("prompt").value ||= prompt;
      this.#show();
    });
  }

  /** Whether the model draws from pictures; one that is not served draws nothing. */
  drawsFromPictures(model) {
    return Boolean(this.#models.get(model)?.takes_image);
  }

  async #receive(event, { files }) {
    const file = [...files].find(({ type }) => type.startsWith("image/"));
    if (!file) return;
    event.preventDefault();
    await this.#take(file);
  }

  /** A file fills the form if it says how it was made; else pictures are drawn from it. */
  async #take(file) {
    await this.#showing(async () => {
      await this.#source.take(file, { used: false });
      const form = new FormData();
      form.append("image", file);
      const told = await this.api.json("POST", "v1/images/inspect", form).catch((refused) => {
        if (refused.status === 401 || refused.status === 0) throw refused;
        return { software: null }; // a format that the server does not read
      });
      if (told.software === null) {
        this.#source.use(true);
        byId("told").textContent = "Pictures are drawn from this one now.";
        this.#show();
        return;
      }
      this.fill(told.parameters);
      byId("told").textContent = `Settings taken from a picture of ${told.software}`;
    });
  }

  #show() {
    byId("prompt").focus();
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    scrollTo({ top: 0, behavior: still ? "instant" : "smooth" });
  }

  async #showing(work) {
    byId("composer-fault").textContent = "";
    try {
      await work();
    } catch (refused) {
      const told = refused instanceof Refused || refused instanceof NoPicture;
      if (!told || refused.status === 401) throw refused;
      byId("composer-fault").textContent = refused.message;
    }
  }

  async #offerModels() {
    const { data } = await this.api.json("GET", "v1/models");
    this.#models = new Map(data.map((model) => [model.id, model]));
    byId("draw-model").replaceChildren(...data.map(({ id }) => new Option(id, id)));
    byId("draw-model").parentElement.hidden = data.length < 2;
    this.#offer(data[0]);
  }

  /** What this model takes. */
  #offer(model) {
    this.#source.possible = model.takes_image;
    const keep = (id, options) => {
      const chosen = byId(id).value;
      byId(id).replaceChildren(...options);
      byId(id).value = chosen;
      if (byId(id).selectedIndex === -1) byId(id).selectedIndex = 0;
    };
    const named = (names) => names.map((name) => new Option(name.replaceAll("_", " "), name));
    const others = model.schedulers.filter((name) => name !== "default");
    keep("scheduler", [new Option("the model's own", ""), ...named(others)]);
    keep("format", named(model.output_formats));
    keep("lora", [new Option("none", ""), ...model.loras.map((name) => new Option(name, name))]);
    byId("hires").parentElement.hidden = !model.takes_image;
    for (const id of ["lora", "lora-scale"]) byId(id).parentElement.hidden = !model.loras.length;
    byId("sizes").replaceChildren(...sizes(model).map((size) => new Option(size, size)));
    byId("size").placeholder = model.default_size;
    byId("steps").placeholder = model.default_steps;
    byId("guidance").placeholder = model.default_guidance_scale;
  }
}

/** Of the model's usual area, in several shapes. */
function sizes({ default_size: usual, size_multiple: multiple, max_side: longest, max_pixels: most }) {
  const [width, height] = usual.split("x").map(Number);
  const side = (pixels) => Math.max(multiple, Math.round(pixels / multiple) * multiple);
  const shaped = SHAPES.map(([across, down]) => {
    const unit = Math.sqrt((width * height) / (across * down));
    return [side(across * unit), side(down * unit)];
  });
  const fits = shaped.filter(([x, y]) => x * y <= most && Math.max(x, y) <= (longest ?? Infinity));
  return [...new Set([usual, ...fits.map(([x, y]) => `${x}x${y}`)])];
}

function suggestion(prompt) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  button.className = "quiet";
  button.textContent = prompt;
  button.onclick = () => {
    byId("prompt").value = prompt;
    byId("prompt").focus();
  };
  item.append(button);
  return item;
}

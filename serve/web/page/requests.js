// Jobs that are asked for, each once: one that was not answered has the same key when sent again.

import { stringify } from "./json.js";

// What of a job's parameters a request may have, but for the seed and the number of pictures.
const REPEATED = [
  "prompt", "negative_prompt", "model", "width", "height", "num_inference_steps", "guidance_scale",
  "scheduler", "loras", "clip_skip", "hires", "output_format", "output_compression",
];
const VARIATIONS = 4;
const VARIED_STRENGTH = 0.6; // shapes stay, details change

export class Requests {
  #unanswered = null; // { told, files, key }

  constructor(api) {
    this.api = api;
  }

  /** The accepted job; `source` is what `Source.asked` tells. */
  async submit(request, source = null) {
    // Two passes are for pictures that are drawn from text.
    const fields = source ? { ...request, hires: undefined, strength: source.strength } : request;
    const files = source?.files;
    const told = stringify(fields);
    const key = this.#isAgain(told, files) ? this.#unanswered.key : random();
    this.#unanswered = null;
    const headers = { "Idempotency-Key": key };
    try {
      return await (files
        ? this.api.json("POST", "v1/edits", form(fields, files), headers)
        : this.api.json("POST", "v1/jobs", fields, headers));
    } catch (refused) {
      if (!refused.status || refused.status >= 500) this.#unanswered = { told, files, key };
      throw refused;
    }
  }

  /** The same picture once more, but for its seed. */
  again({ params }) {
    return this.submit(repeated(params));
  }

  /** Others that keep the picture's shapes. */
  async vary({ id, params }) {
    const files = { image: await this.api.file(`v1/images/${id}/original`) };
    const request = { ...repeated(params), n: VARIATIONS };
    return this.submit(request, { strength: VARIED_STRENGTH, files });
  }

  #isAgain(told, files) {
    const last = this.#unanswered;
    const same = (name) => last.files?.[name] === files?.[name];
    return last?.told === told && same("image") && same("mask");
  }
}

function repeated(params) {
  const kept = REPEATED.filter((name) => params[name] !== null && params[name] !== undefined);
  return Object.fromEntries(kept.map((name) => [name, params[name]]));
}

function form(fields, files) {
  const made = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined) continue;
    made.append(name, typeof value === "object" ? JSON.stringify(value) : String(value));
  }
  for (const [name, file] of Object.entries(files)) made.append(name, file, name);
  return made;
}

// `crypto.randomUUID` is there on HTTPS alone.
function random() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

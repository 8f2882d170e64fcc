// The HTTP API, spoken with one key. Paths are relative to the page, wherever a proxy puts it.

import { parse, stringify } from "./json.js";

const KEPT = "sfumato.key";

/** The key of `#key=…`, which leaves the address bar at once, or the one kept from before. */
export function findKey() {
  const given = new URLSearchParams(location.hash.slice(1)).get("key");
  if (given) {
    keepKey(given);
    history.replaceState(null, "", location.pathname + location.search);
  }
  return localStorage.getItem(KEPT);
}

export function keepKey(key) {
  if (key) localStorage.setItem(KEPT, key);
  else localStorage.removeItem(KEPT);
}

export const read = async (answer) => parse(await answer.text());

/** An answer that is no success: `status` and a sentence for people. */
export class Refused extends Error {
  constructor(status, body) {
    super(body?.error?.message ?? body?.detail ?? `The server answered ${status}.`);
    this.status = status;
  }
}

export class Api {
  constructor(key) {
    this.key = key;
  }

  async json(method, path, body, headers = {}) {
    const answer = await this.#fetch(method, path, body, headers);
    return read(answer);
  }

  /** Where the answer holds nothing. */
  async send(method, path) {
    await this.#fetch(method, path);
  }

  async file(path) {
    const answer = await this.#fetch("GET", path);
    return answer.blob();
  }

  /** A URL that an <img> can show: a plain one could not carry the key. */
  async pictureUrl(path) {
    return URL.createObjectURL(await this.file(path));
  }

  async #fetch(method, path, body, others = {}) {
    const headers = { Authorization: `Bearer ${this.key}`, ...others };
    const isForm = body instanceof FormData;
    if (body && !isForm) headers["Content-Type"] = "application/json";
    let answer;
    try {
      answer = await fetch(path, { method, headers, body: body && !isForm ? stringify(body) : body });
    } catch {
      throw new Refused(0, { detail: "The server does not answer." });
    }
    if (!answer.ok) throw new Refused(answer.status, await read(answer).catch(() => null));
    return answer;
  }
}

// The gallery page: a prompt, pictures that emerge, and those that are done.

import { Api, Refused, findKey, keepKey } from "./api.js";
import { Card } from "./card.js";
import { Composer } from "./composer.js";
import { Detail } from "./detail.js";
import { Feed } from "./feed.js";
import { Search } from "./search.js";
import { status, watchReadiness } from "./status.js";

const PAGE = 24;
// What of a job's parameters a request may have, but for the seed and the number of pictures.
const REPEATED = [
  "prompt", "negative_prompt", "model", "width", "height", "num_inference_steps", "guidance_scale",
  "scheduler", "loras", "clip_skip", "output_format", "output_compression",
];
const LIVE = new Set(["queued", "running"]);
const ENDS = new Set(["job.succeeded", "job.failed", "job.cancelled", "job.expired"]);

const byId = (id) => document.getElementById(id);
const grid = byId("grid");

function unlessDeleted(refused) {
  if (refused.status !== 410) throw refused;
}

class Gallery {
  #cards = new Map(); // image id → Card
  #jobs = new Map(); // job id → ids of its images that are not done
  #asking = new Set(); // job ids that are being fetched
  #next = null; // where the older pictures go on

  constructor(key) {
    this.api = new Api(key);
    this.detail = new Detail(this.api, {
      neighbour: this.#neighbour,
      again: this.#again,
      reuse: ({ params, seed }) => this.composer.fill({ ...params, seed }),
      favour: this.#favour,
      remove: this.#remove,
    });
    this.search = new Search(this.api, () => this.refresh({ anew: true }).catch(this.#complain));
    this.feed = new Feed(key, {
      event: (event) => this.#take(event).catch(this.#complain),
      state: (state) => this.#connected(state),
      badKey: () => askForKey("This key is not valid."),
    });
    byId("more").onclick = () => this.#older().catch(this.#complain);
    this.scroll = new IntersectionObserver(([{ isIntersecting }]) => isIntersecting && byId("more").click(), {
      rootMargin: "600px",
    });
    this.scroll.observe(byId("more"));
    this.composer = new Composer(this.api, this.#submit);
  }

  close() {
    this.feed.close();
    this.scroll.disconnect();
    grid.replaceChildren();
  }

  /**
   * The newest pictures of those looked for and the jobs under way; run again after every gap in
   * the connection, and `anew`, without what was shown, when others are looked for.
   */
  async refresh({ anew = false } = {}) {
    const query = this.search.query;
    const [pictures, jobs] = await Promise.all([
      this.api.json("GET", `v1/images?limit=${PAGE}&${query}`),
      this.api.json("GET", "v1/jobs?limit=50"),
    ]);
    if (query !== this.search.query) return; // another answer is on its way
    if (anew) this.#drop();
    const first = grid.querySelector(":scope > .card:not(.live)");
    for (const picture of pictures.data) this.#finished(picture, (card) => grid.insertBefore(card, first));
    if (!first) this.#page(pictures);
    for (const job of jobs.data.reverse()) if (LIVE.has(job.state)) this.#emerging(job);
    byId("pictures").hidden = false;
    byId("list-fault").textContent = "";
    this.#emptiness();
  }

  /** All but what is being drawn. */
  #drop() {
    for (const [id, card] of this.#cards) {
      if (!card.picture) continue;
      this.#cards.delete(id);
      card.remove();
    }
  }

  async #older() {
    const query = this.search.query;
    const path = `v1/images?limit=${PAGE}&after=${this.#next}&${query}`;
    byId("more").hidden = true; // once at a time; while it is hidden it cannot come into view
    const pictures = await this.api.json("GET", path).finally(() => (byId("more").hidden = false));
    if (query !== this.search.query) return;
    for (const picture of pictures.data) this.#finished(picture, (card) => grid.append(card));
    this.#page(pictures);
  }

  #page({ has_more: more, next }) {
    this.#next = next;
    byId("more").hidden = !more;
  }

  /** Cards for the pictures of a job that are still to come. */
  #emerging(job) {
    if (this.#jobs.has(job.id)) return;
    const waiting = job.images.filter(({ state }) => LIVE.has(state));
    this.#jobs.set(job.id, new Set(waiting.map(({ id }) => id)));
    for (const { id } of waiting) { // the last comes first, as in the list
      if (this.#cards.has(id)) continue;
      const card = new Card(job.prompt);
      card.root.classList.add("live");
      card.emerge(() => this.#cancel(job.id));
      this.#cards.set(id, card);
      grid.prepend(card.root);
    }
    this.feed.watch(job.id, job.last_seq);
    this.#emptiness();
  }

  /** The card of a finished picture: the one it emerged in, or a new one that `place` puts. */
  #finished(picture, place) {
    let card = this.#cards.get(picture.id);
    if (card?.picture) return;
    if (!card) {
      card = new Card(picture.prompt);
      this.#cards.set(picture.id, card);
      place(card.root);
    }
    card.root.classList.remove("live");
    const open = (shown) => this.detail.open(shown);
    card.show(picture, this.api, { open, favour: this.#favour }).catch(this.#complain);
  }

  async #take({ type, job_id: jobId, data }) {
    if (type === "image.progress") {
      this.#cards.get(data.image_id)?.advance(data);
    } else if (type === "image.succeeded") {
      this.#jobs.get(jobId)?.delete(data.image_id);
      const picture = await this.api.json("GET", `v1/images/${data.image_id}`).catch(unlessDeleted);
      if (!picture) return;
      this.#finished(picture, (card) => grid.prepend(card));
      byId("told").textContent = `Done: ${picture.prompt}`;
      this.#emptiness();
    } else if (type === "job.queued" || type === "job.running") {
      if (this.#jobs.has(jobId) || this.#asking.has(jobId)) return;
      this.#asking.add(jobId);
      const job = await this.api.json("GET", `v1/jobs/${jobId}`);
      this.#asking.delete(jobId);
      if (LIVE.has(job.state)) this.#emerging(job);
    } else if (ENDS.has(type)) { // a newer server may tell of more
      this.#ended(type, jobId, data);
      if (data.kept !== undefined) await this.#keepOne(jobId);
    }
  }

  /** An autonomous job keeps the better of its pictures. */
  async #keepOne(jobId) {
    const { images } = await this.api.json("GET", `v1/jobs/${jobId}`);
    for (const { id } of images.filter(({ deleted_at: deletedAt }) => deletedAt)) {
      this.#cards.get(id)?.leave();
      this.#cards.delete(id);
    }
  }

  #ended(type, jobId, data) {
    for (const id of this.#jobs.get(jobId) ?? []) {
      const card = this.#cards.get(id);
      if (!card || card.picture) continue;
      this.#cards.delete(id);
      if (type === "job.cancelled") card.leave();
      else if (type === "job.expired") card.fail("The deadline passed before it was drawn.");
      else card.fail(data.error ?? "It could not be drawn.");
    }
    this.#jobs.delete(jobId);
    setTimeout(() => this.#emptiness(), 400);
  }

  #submit = async (request) => this.#emerging(await this.api.json("POST", "v1/jobs", request));

  /** The same once more, but for its seed. */
  #again = async ({ params }) => {
    const kept = REPEATED.filter((name) => params[name] !== null && params[name] !== undefined);
    const request = Object.fromEntries(kept.map((name) => [name, params[name]]));
    await this.#submit(request).catch(this.#complain);
  };

  async #cancel(jobId) {
    try {
      await this.api.json("DELETE", `v1/jobs/${jobId}`);
    } catch (refused) {
      if (refused.status !== 409) this.#complain(refused); // 409: it has just ended by itself
    }
  }

  #favour = async (card, favourite) => {
    try {
      await this.api.json("PATCH", `v1/images/${card.picture.id}`, { favourite });
      card.favoured(favourite);
    } catch (refused) {
      this.#complain(refused);
    }
  };

  #remove = async (card) => {
    await this.api.send("DELETE", `v1/images/${card.picture.id}`);
    this.#cards.delete(card.picture.id);
    card.remove();
    byId("told").textContent = `Deleted: ${card.picture.prompt}`;
    this.#emptiness();
  };

  #neighbour = (card, by) => {
    const shown = [...this.#cards.values()].filter((other) => other.picture && other.root.isConnected);
    const order = new Map([...grid.children].map((root, place) => [root, place]));
    shown.sort((one, other) => order.get(one.root) - order.get(other.root));
    return shown[shown.indexOf(card) + by];
  };

  #connected(state) {
    if (state === "open") {
      this.refresh().catch(this.#complain);
      watchReadiness();
    } else {
      status(state, state === "offline" ? "Reconnecting" : "Connecting");
    }
  }

  #complain = (refused) => this.#refused(refused, byId("list-fault"));

  #refused(refused, place) {
    if (!(refused instanceof Refused)) throw refused;
    if (refused.status === 401) askForKey(refused.message);
    else place.textContent = refused.message;
  }

  #emptiness() {
    const nothing = grid.children.length === 0;
    byId("empty").hidden = !nothing || this.search.query !== "";
    byId("none-found").hidden = !nothing || this.search.query === "";
    byId("search").hidden = nothing && this.search.query === "";
  }
}

let gallery = null;

function open(key) {
  gallery?.close();
  byId("key-form").hidden = true;
  byId("composer").hidden = false;
  byId("change-key").hidden = false;
  gallery = new Gallery(key);
}

function askForKey(fault = "") {
  gallery?.close();
  gallery = null;
  keepKey(null);
  for (const id of ["composer", "pictures", "change-key"]) byId(id).hidden = true;
  byId("key-form").hidden = false;
  byId("key-fault").textContent = fault;
  status("offline", "No key");
  byId("key").focus();
}

byId("key-form").onsubmit = (event) => {
  event.preventDefault();
  const key = byId("key").value.trim();
  byId("key").value = "";
  keepKey(key);
  open(key);
};
byId("change-key").onclick = () => askForKey();
addEventListener("hashchange", () => location.hash.startsWith("#key=") && open(findKey()));
const key = findKey();
if (key) open(key);
else askForKey();

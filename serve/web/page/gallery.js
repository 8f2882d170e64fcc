// The gallery page: a prompt, pictures that emerge, and those that are done.

import { Albums } from "./albums.js";
import { Api, Refused, keepKey } from "./api.js";
import { Card } from "./card.js";
import { Composer } from "./composer.js";
import { Detail } from "./detail.js";
import { Feed } from "./feed.js";
import { openGate } from "./gate.js";
import { tellQueue } from "./queue.js";
import { Requests } from "./requests.js";
import { Search } from "./search.js";
import { status, watchReadiness } from "./status.js";

const PAGE = 24;
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
  #stale = false; // whether others are to be shown once no picture is in view

  constructor(key) {
    this.api = new Api(key);
    this.requests = new Requests(this.api);
    this.detail = new Detail(this.api, {
      neighbour: this.#neighbour,
      again: (picture) => this.#made(this.requests.again(picture)),
      vary: (picture) => this.#made(this.requests.vary(picture)),
      drawFrom: (picture) => this.composer.drawFrom(picture),
      drawable: ({ model }) => this.composer.drawsFromPictures(model),
      view: (picture) => this.albums.view(picture),
      closed: () => this.#stale && this.#showAlbum(),
      reuse: ({ params, seed }) => this.composer.fill({ ...params, seed }),
      favour: this.#favour,
      remove: this.#remove,
    });
    this.search = new Search(this.api, () => this.refresh({ anew: true }).catch(this.#complain));
    this.albums = new Albums(this.api, () => this.#showAlbum());
    this.feed = new Feed(key, {
      event: (event) => this.#take(event).catch(this.#complain),
      state: (state) => this.#connected(state),
      badKey: () => askForKey("This key is not valid."),
    });
    byId("cancel-all").onclick = () => [...this.#jobs.keys()].forEach((id) => this.#cancel(id));
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
    this.albums.close();
    grid.replaceChildren();
  }

  /**
   * The newest pictures of those looked for and the jobs under way; run again after every gap in
   * the connection, and `anew`, without what was shown, when others are looked for.
   */
  async refresh({ anew = false } = {}) {
    const query = this.search.query;
    const [pictures, ...live] = await Promise.all([
      this.api.json("GET", `v1/images?limit=${PAGE}&${query}`),
      ...[...LIVE].map((state) => this.api.json("GET", `v1/jobs?limit=100&state=${state}`)),
    ]);
    if (query !== this.search.query) return; // another answer is on its way
    if (anew) this.#drop();
    const first = grid.querySelector(":scope > .card:not(.live)");
    for (const picture of pictures.data) this.#finished(picture, (card) => grid.insertBefore(card, first));
    if (!first) this.#page(pictures);
    const jobs = live.flatMap(({ data }) => data).sort((one, other) => (one.id < other.id ? -1 : 1));
    for (const job of jobs) this.#emerging(job);
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
    for (const { id, state } of waiting) {
      if (this.#cards.has(id)) continue;
      const card = new Card(job.prompt);
      card.root.classList.add("live");
      card.root.dataset.id = id;
      card.emerge(() => this.#cancel(job.id), { begun: state === "running", of: waiting.length });
      this.#cards.set(id, card);
      // The last comes first, as in the list; events may bring jobs in another order.
      const live = [...grid.querySelectorAll(":scope > .live")];
      const after = live.find((root) => root.dataset.id < id) ?? grid.querySelector(":scope > :not(.live)");
      grid.insertBefore(card.root, after);
    }
    this.feed.watch(job.id, job.last_seq);
    this.#emptiness();
    tellQueue(this.#cards);
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
      const card = this.#cards.get(data.image_id);
      const begins = card && !card.begun;
      card?.advance(data);
      if (begins) tellQueue(this.#cards);
    } else if (type === "image.succeeded") {
      this.#jobs.get(jobId)?.delete(data.image_id);
      const picture = await this.api.json("GET", `v1/images/${data.image_id}`).catch(unlessDeleted);
      if (!picture) return;
      this.#finished(picture, (card) => grid.prepend(card));
      byId("told").textContent = `Done: ${picture.prompt}`;
      this.#emptiness();
      tellQueue(this.#cards);
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
    tellQueue(this.#cards);
    setTimeout(() => this.#emptiness(), 400);
  }

  #submit = async (request, source) => this.#emerging(await this.requests.submit(request, source));

  /** A job that is made of a picture: `asked` is answered with it. */
  async #made(asked) {
    try {
      this.#emerging(await asked);
    } catch (refused) {
      this.#complain(refused);
    }
  }

  #showAlbum() {
    this.#stale = byId("detail").open;
    if (this.#stale) return;
    this.search.album = this.albums.chosen;
    this.refresh({ anew: true }).catch(this.#complain);
  }

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
    this.albums.load().catch(this.#complain);
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

const askForKey = openGate({
  open(key) {
    gallery?.close();
    byId("composer").hidden = false;
    gallery = new Gallery(key);
  },
  close() {
    gallery?.close();
    gallery = null;
    keepKey(null);
    for (const id of ["composer", "pictures"]) byId(id).hidden = true;
  },
  lacking: "No key",
});

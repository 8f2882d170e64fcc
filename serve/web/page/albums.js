// Albums: a shelf to choose from, and in which of them the picture in view is.

import { confirmDeletion } from "./confirm.js";

const byId = (id) => document.getElementById(id);

export class Albums {
  #albums = [];
  #covers = new Map(); // image id → URL of its thumbnail
  #picture = null; // that in view
  #chosen = null; // the id of the album that is shown alone

  /** `changed()` is called when another album is shown, or the one that is shown has changed. */
  constructor(api, changed) {
    this.api = api;
    this.changed = changed;
    byId("album-form").onsubmit = (event) => this.#rename(event);
    byId("album-delete").onclick = () => this.#delete();
    byId("detail-albums").ontoggle = () => byId("detail-albums").open && this.#offer();
    byId("new-album").onkeydown = (event) => event.key === "Enter" && this.#putIntoNew();
    byId("new-album-put").onclick = () => this.#putIntoNew();
    byId("detail-cover").onclick = () => this.#showing("album-fault", () => this.#cover());
    this.load().catch(() => {}); // without them there are still pictures
  }

  close() {
    for (const url of this.#covers.values()) url.then((it) => URL.revokeObjectURL(it), () => {});
    byId("album-list").replaceChildren();
  }

  /** The filter of `GET /v1/images`, if one is chosen. */
  get chosen() {
    return this.#chosen;
  }

  /** All of them, and the shelf anew. */
  async load() {
    this.#albums = await this.#all("");
    if (!this.#albums.some(({ id }) => id === this.#chosen)) this.#chosen = null;
    this.#shelve();
  }

  async #all(filter) {
    const found = [];
    let after = "";
    do {
      const page = await this.api.json("GET", `v1/albums?limit=100${filter}${after}`);
      found.push(...page.data);
      after = page.has_more ? `&after=${page.next}` : "";
    } while (after);
    return found;
  }

  /** This picture is in view now. */
  view(picture) {
    this.#picture = picture;
    byId("detail-cover").hidden = !this.#chosen;
    byId("detail-albums-fault").textContent = "";
    if (byId("detail-albums").open) this.#offer();
  }

  #shelve() {
    byId("albums").hidden = this.#albums.length === 0;
    byId("album-list").replaceChildren(
      this.#tile({ id: null, name: "All pictures" }),
      ...this.#albums.map((album) => this.#tile(album)),
    );
    const album = this.#albums.find(({ id }) => id === this.#chosen);
    byId("album-form").hidden = !album;
    if (album) byId("album-name").value = album.name;
  }

  #tile({ id, name, pictures, cover_id: cover }) {
    const tile = document.createElement("button");
    tile.type = "button";
    tile.className = "album";
    tile.setAttribute("aria-pressed", String(id === this.#chosen));
    const frame = document.createElement("span");
    frame.className = "cover";
    if (cover) {
      const image = document.createElement("img");
      image.alt = "";
      this.#coverUrl(cover).then((url) => (image.src = url), () => {});
      frame.append(image);
    }
    const label = document.createElement("span");
    label.textContent = name;
    tile.append(frame, label);
    if (pictures !== undefined) {
      const count = document.createElement("small");
      count.textContent = pictures === 1 ? "1 picture" : `${pictures} pictures`;
      tile.append(count);
    }
    tile.onclick = () => this.#choose(id);
    const item = document.createElement("li");
    item.append(tile);
    return item;
  }

  #coverUrl(imageId) {
    if (!this.#covers.has(imageId)) {
      this.#covers.set(imageId, this.api.pictureUrl(`v1/images/${imageId}/thumbnail`));
    }
    return this.#covers.get(imageId);
  }

  #choose(id) {
    this.#chosen = id;
    byId("album-fault").textContent = "";
    this.#shelve();
    byId("album-list").querySelector("[aria-pressed=true]").focus();
    this.changed();
  }

  #rename(event) {
    event.preventDefault();
    return this.#showing("album-fault", async () => {
      const name = byId("album-name").value;
      await this.api.json("PATCH", `v1/albums/${this.#chosen}`, { name });
      await this.load();
      byId("told").textContent = `Renamed: ${name}`;
    });
  }

  async #delete() {
    const album = this.#albums.find(({ id }) => id === this.#chosen);
    const deleted = await confirmDeletion(
      {
        lead: "Delete this album?",
        what: `“${album.name}” will be gone; its pictures stay.`,
        yes: "Delete the album",
      },
      () => this.api.send("DELETE", `v1/albums/${album.id}`),
    );
    if (!deleted) return byId("album-delete").focus();
    await this.#showing("album-fault", () => this.load());
    byId("pictures").focus();
    this.changed();
  }

  async #cover() {
    await this.api.json("PATCH", `v1/albums/${this.#chosen}`, { cover_id: this.#picture.id });
    await this.load();
    byId("told").textContent = "This picture stands for the album now.";
  }

  /** A box for each album, ticked if the picture is in it. */
  #offer() {
    const { id } = this.#picture;
    return this.#showing("detail-albums-fault", async () => {
      const [having] = await Promise.all([
        this.#all(`&image=${id}`),
        this.load(),
      ]);
      if (this.#picture.id !== id) return;
      const within = new Set(having.map((album) => album.id));
      byId("detail-album-list").replaceChildren(
        ...this.#albums.map((album) => this.#box(album, within.has(album.id))),
      );
    });
  }

  #box(album, within) {
    const label = document.createElement("label");
    const box = document.createElement("input");
    box.type = "checkbox";
    box.checked = within;
    box.onchange = () =>
      this.#showing("detail-albums-fault", async () => {
        box.disabled = true;
        const path = `v1/albums/${album.id}/images/${this.#picture.id}`;
        try {
          await this.api.send(box.checked ? "PUT" : "DELETE", path);
          await this.load();
        } catch (refused) {
          box.checked = !box.checked;
          throw refused;
        } finally {
          box.disabled = false;
          box.focus();
        }
        if (album.id === this.#chosen) this.changed();
      });
    label.append(box, ` ${album.name}`);
    return label;
  }

  #putIntoNew() {
    const name = byId("new-album").value;
    return this.#showing("detail-albums-fault", async () => {
      const album = await this.api.json("POST", "v1/albums", { name });
      byId("new-album").value = "";
      await this.api.send("PUT", `v1/albums/${album.id}/images/${this.#picture.id}`);
      await this.#offer();
    });
  }

  async #showing(place, work) {
    byId(place).textContent = "";
    try {
      await work();
    } catch (refused) {
      if (refused.status === undefined) throw refused;
      byId(place).textContent = refused.message;
    }
  }
}

// What of the finished pictures is looked for.

const PAUSE_MS = 250; // after the last key

const byId = (id) => document.getElementById(id);

export class Search {
  album = null; // the id of the one whose pictures are looked for
  #changed;
  #timer = 0;

  /** `changed()` is called whenever `query` is another one. */
  constructor(api, changed) {
    this.#changed = changed;
    byId("words").oninput = () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(changed, PAUSE_MS);
    };
    byId("search").onsubmit = (event) => {
      event.preventDefault();
      this.#now();
    };
    byId("model").onchange = () => this.#now();
    byId("favourites").onclick = () => {
      byId("favourites").setAttribute("aria-pressed", String(!this.#favourites));
      this.#now();
    };
    this.#offerModels(api).catch(() => {}); // without them everything else can be looked for
  }

  /** Of `GET /v1/images`, without a page's own. */
  get query() {
    const asked = new URLSearchParams();
    const words = byId("words").value.trim();
    if (words) asked.set("q", words);
    if (byId("model").value) asked.set("model", byId("model").value);
    if (this.album) asked.set("album", this.album);
    if (this.#favourites) asked.set("favourite", "true");
    return asked.toString();
  }

  get #favourites() {
    return byId("favourites").getAttribute("aria-pressed") === "true";
  }

  #now() {
    clearTimeout(this.#timer);
    this.#changed();
  }

  /** A choice is one only between several. */
  async #offerModels(api) {
    const { data } = await api.json("GET", "v1/models");
    byId("model").replaceChildren(
      new Option("Every model", ""),
      ...data.map(({ id }) => new Option(id, id)),
    );
    byId("model").hidden = data.length < 2;
  }
}

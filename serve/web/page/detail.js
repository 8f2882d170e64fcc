// One picture, large, with what it was made of.

import { Compare } from "./compare.js";
import { confirmDeletion } from "./confirm.js";

const byId = (id) => document.getElementById(id);

export class Detail {
  #dialog = byId("detail");
  #card = null;

  /**
   * `neighbour(card, 1 | -1)` is the next older or newer card; `reuse(picture)` fills the form;
   * `again(picture)` draws it with another seed, `vary(picture)` draws others from it, and
   * `drawFrom(picture)` has the form do so; `drawable(picture)` says whether that is possible;
   * `view(picture)` and `closed()` tell which one is in view;
   * `favour(card, yes)` and `remove(card)` do so on the server, and on the page once it has.
   */
  constructor(api, { neighbour, again, vary, reuse, drawFrom, drawable, view, closed, favour, remove }) {
    this.api = api;
    this.neighbour = neighbour;
    this.remove = remove;
    this.drawable = drawable;
    this.view = view;
    const compare = (this.compare = new Compare(api));
    byId("detail-compare").onclick = async () => {
      const card = this.#card;
      this.#dialog.close();
      await compare.pick(card);
    };
    byId("detail-download").onclick = () => {
      api.send("GET", `v1/images/${this.#card.picture.id}/original?download=true`).catch(() => {}); // for the trends
    };
    byId("detail-star").onclick = async () => {
      const card = this.#card;
      await favour(card, !card.picture.favourite);
      if (this.#card === card) this.#star();
    };
    byId("detail-delete").onclick = () => this.#delete();
    byId("detail-close").onclick = () => this.#dialog.close();
    byId("detail-newer").onclick = () => this.#turn(-1);
    byId("detail-older").onclick = () => this.#turn(1);
    byId("detail-reuse").onclick = () => {
      this.#dialog.close();
      reuse(this.#card.picture);
    };
    byId("detail-again").onclick = () => {
      this.#dialog.close();
      again(this.#card.picture);
    };
    byId("detail-vary").onclick = () => {
      this.#dialog.close();
      vary(this.#card.picture);
    };
    byId("detail-source").onclick = () => {
      this.#dialog.close();
      drawFrom(this.#card.picture);
    };
    this.#dialog.onclick = (event) => {
      if (event.target === this.#dialog) this.#dialog.close();
    };
    this.#dialog.onkeydown = (event) => {
      if (event.target.matches("input")) return;
      if (event.key === "ArrowLeft") this.#turn(-1);
      if (event.key === "ArrowRight") this.#turn(1);
      if (event.key === "Delete") this.#delete();
    };
    this.#dialog.onclose = () => {
      (this.#card?.frame ?? byId("pictures")).focus();
      closed();
    };
  }

  async open(card) {
    this.#card = card;
    const { picture } = card;
    byId("detail-prompt").textContent = picture.prompt;
    byId("detail-image").alt = picture.prompt;
    this.#star();
    byId("detail-again").hidden = Boolean(picture.params.image || picture.params.control_image);
    for (const id of ["detail-vary", "detail-source"]) byId(id).hidden = !this.drawable(picture);
    this.view(picture);
    byId("detail-compare").textContent = this.compare.label(card);
    byId("detail-facts").replaceChildren(...facts(picture));
    byId("detail-newer").disabled = !this.neighbour(card, -1);
    byId("detail-older").disabled = !this.neighbour(card, 1);
    if (!this.#dialog.open) this.#dialog.showModal();
    const url = await card.originalUrl(this.api);
    if (this.#card !== card) return;
    byId("detail-image").src = url;
    const download = byId("detail-download");
    download.href = url;
    const ending = card.original.media_type.split("/")[1];
    download.download = `${picture.prompt.replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 40)}-${picture.seed}.${ending}`;
  }

  #star() {
    byId("detail-star").setAttribute("aria-pressed", String(this.#card.picture.favourite));
  }

  /** Goes on with a neighbour, if there is one. */
  async #delete() {
    const card = this.#card;
    const next = this.neighbour(card, 1) ?? this.neighbour(card, -1);
    if (!(await confirmDeletion(lost(card.picture), () => this.remove(card)))) return;
    this.#card = null;
    if (next) this.open(next);
    else this.#dialog.close();
  }

  #turn(by) {
    const next = this.neighbour(this.#card, by);
    if (next) this.open(next);
  }
}

const lost = ({ prompt }) => ({
  lead: "Delete this picture?",
  what: `“${prompt}” and its files will be gone for good.`,
  yes: "Delete for good",
});

function facts({ params, seed, width, height, model, created_at: created }) {
  const rows = [
    ["Seed", seed],
    ["Steps", params.num_inference_steps],
    ["Guidance", params.guidance_scale],
    ["Size", `${width} × ${height}`],
    ["Noise scheduler", params.scheduler],
    ["Drawn first", params.hires ? `${params.hires.scale} times smaller` : ""],
    ["Model", model],
    ["Without", params.negative_prompt],
    ["Asked for", new Date(created).toLocaleString()],
  ];
  return rows.filter(([, value]) => value !== "").flatMap(([name, value]) => {
    const term = document.createElement("dt");
    const told = document.createElement("dd");
    term.textContent = name;
    told.textContent = String(value);
    return [term, told];
  });
}

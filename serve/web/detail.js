// One picture, large, with what it was made of.

const byId = (id) => document.getElementById(id);

export class Detail {
  #dialog = byId("detail");
  #card = null;

  /** `neighbour(card, 1 | -1)` is the next older or newer card; `reuse(picture)` fills the form. */
  constructor(api, neighbour, reuse) {
    this.api = api;
    this.neighbour = neighbour;
    byId("detail-close").onclick = () => this.#dialog.close();
    byId("detail-newer").onclick = () => this.#turn(-1);
    byId("detail-older").onclick = () => this.#turn(1);
    byId("detail-reuse").onclick = () => {
      this.#dialog.close();
      reuse(this.#card.picture);
    };
    this.#dialog.onclick = (event) => {
      if (event.target === this.#dialog) this.#dialog.close();
    };
    this.#dialog.onkeydown = (event) => {
      if (event.key === "ArrowLeft") this.#turn(-1);
      if (event.key === "ArrowRight") this.#turn(1);
    };
    this.#dialog.onclose = () => this.#card?.frame.focus();
  }

  async open(card) {
    this.#card = card;
    const { picture } = card;
    byId("detail-prompt").textContent = picture.prompt;
    byId("detail-image").alt = picture.prompt;
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

  #turn(by) {
    const next = this.neighbour(this.#card, by);
    if (next) this.open(next);
  }
}

function facts({ params, seed, width, height, model, created_at: created }) {
  const rows = [
    ["Seed", seed],
    ["Steps", params.num_inference_steps],
    ["Guidance", params.guidance_scale],
    ["Size", `${width} × ${height}`],
    ["Noise scheduler", params.scheduler],
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

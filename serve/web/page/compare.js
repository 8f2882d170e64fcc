// Two pictures over each other, with a line to move between them.

const byId = (id) => document.getElementById(id);

export class Compare {
  #dialog = byId("compare");
  #first = null; // the card that waits for another

  constructor(api) {
    this.api = api;
    byId("compare-line").oninput = () => this.#move();
    byId("compare-close").onclick = () => this.#dialog.close();
    this.#dialog.onclose = () => byId("pictures").focus();
  }

  /** What the button of this card's detail says. */
  label(card) {
    const other = this.#first?.root.isConnected && this.#first !== card ? this.#first.picture : null;
    return other ? `Compare with “${other.prompt.slice(0, 24)}”` : "Compare";
  }

  /** Remembers the first card, and shows it beside the second; whether both are there. */
  async pick(card) {
    const first = this.#first;
    if (!first?.root.isConnected || first === card) {
      this.#first = card;
      return false;
    }
    this.#first = null;
    const urls = await Promise.all([first, card].map((each) => each.originalUrl(this.api)));
    for (const [side, each, url] of [["left", first, urls[0]], ["right", card, urls[1]]]) {
      byId(`compare-${side}`).src = url;
      byId(`compare-${side}`).alt = each.picture.prompt;
      byId(`compare-${side}-told`).textContent = `${each.picture.prompt} · seed ${each.picture.seed}`;
    }
    byId("compare-line").value = "50";
    this.#move();
    this.#dialog.showModal();
    return true;
  }

  #move() {
    byId("compare-stage").style.setProperty("--line", `${byId("compare-line").value}%`);
  }
}

// The operator's page: what waits, who draws, how fast, and what went wrong.

import { Api, Refused } from "./api.js";
import { openGate } from "./gate.js";
import { status } from "./status.js";

const EVERY_MS = 3_000;
const FIGURES = ["pictures-per-minute", "queued", "running", "wait", "replica-count"];

const byId = (id) => document.getElementById(id);
const sum = (list, name) => list.reduce((total, each) => total + each[name], 0);

class Overview {
  #timer = 0;
  #rates = new Map(); // replica id → { at, steps, request_steps, told } of an earlier heartbeat

  constructor(key) {
    this.api = new Api(key);
    document.onvisibilitychange = () => !document.hidden && this.refresh();
    this.refresh();
  }

  close() {
    clearTimeout(this.#timer);
    this.#timer = null;
  }

  async refresh() {
    if (this.#timer === null) return;
    clearTimeout(this.#timer);
    try {
      const [overview, models] = await Promise.all([
        this.api.json("GET", "v1/operator/overview"),
        this.api.json("GET", "v1/operator/models"),
      ]);
      if (this.#timer === null) return;
      this.#show(overview, models.data);
      status("ready", "Live");
    } catch (refused) {
      if (!(refused instanceof Refused)) throw refused;
      if (refused.status === 401 || refused.status === 403) return askForKey(refused.message);
      status("offline", refused.status ? refused.message : "Reconnecting");
    }
    if (this.#timer !== null && !document.hidden) {
      this.#timer = setTimeout(() => this.refresh(), EVERY_MS);
    }
  }

  #show({ pools, replicas, failures, pictures_per_minute: perMinute }, models) {
    byId("overview").hidden = false;
    const wait = Math.max(0, ...pools.map((pool) => pool.wait_s));
    const told = [perMinute, sum(pools, "queued"), sum(pools, "running"), seconds(wait), replicas.length];
    FIGURES.forEach((id, index) => (byId(id).textContent = told[index]));
    rows("pools", pools, "No pools", (pool) => [
      pool.name, pool.queued, pool.running,
      seconds(pool.backlog_s), seconds(pool.wait_s), seconds(pool.oldest_s),
    ]);
    rows("models", models, "No models", (model) => [
      model.name, model.pool, model.queued, model.running,
      `${model.ready} of ${model.replicas}`,
      model.error ?? model.state, this.#pausing(model),
    ]);
    rows("replicas", replicas, "No replica is alive: nothing is drawn", (replica) => [
      replica.pool, replica.device, replica.models.join(", "), ...this.#rate(replica),
      replica.finished, replica.failed,
      replica.draining ? "draining" : moment(replica.started_at),
    ]);
    rows("failures", failures, "None", (failure) => [
      moment(failure.finished_at), failure.tenant, failure.model,
      wide(failure.error ?? failure.error_code ?? ""), failure.job_id,
    ]);
  }

  /** Steps a second and how full they are, between two heartbeats. */
  #rate({ id, slots, steps, request_steps: requests, heartbeat_at: heartbeat }) {
    const at = Date.parse(heartbeat);
    const last = this.#rates.get(id) ?? { at, steps, requests, told: ["–", `of ${slots}`] };
    if (at > last.at) {
      const made = steps - last.steps;
      const fill = made ? ((requests - last.requests) / made).toFixed(1) : "0";
      last.told = [((made * 1000) / (at - last.at)).toFixed(1), `${fill} of ${slots}`];
    }
    this.#rates.set(id, { at, steps, requests, told: last.told });
    return last.told;
  }

  #pausing({ name, state }) {
    const button = document.createElement("button");
    const pauses = state !== "paused";
    button.type = "button";
    button.className = "quiet";
    button.dataset.model = name;
    button.textContent = pauses ? "Pause" : "Resume";
    button.setAttribute("aria-label", `${button.textContent} ${name}`);
    button.onclick = async () => {
      button.disabled = true;
      byId("fault").textContent = "";
      try {
        const path = name.split("/").map(encodeURIComponent).join("/");
        await this.api.json("PATCH", `v1/operator/models/${path}`, { paused: pauses });
        byId("told").textContent = `${pauses ? "Paused" : "Resumed"}: ${name}`;
      } catch (refused) {
        byId("fault").textContent = refused.message;
      }
      this.refresh();
    };
    return button;
  }
}

/** A row for each entry; what has the focus keeps it. */
function rows(id, entries, nothing, cells) {
  const focused = document.activeElement?.dataset.model;
  const made = entries.map((entry) => row(cells(entry)));
  if (!made.length) {
    const none = row([nothing]);
    none.firstChild.className = "nothing";
    none.firstChild.colSpan = byId(id).parentElement.tHead.rows[0].cells.length;
    made.push(none);
  }
  byId(id).replaceChildren(...made);
  if (focused) [...byId(id).querySelectorAll("button")].find((it) => it.dataset.model === focused)?.focus();
}

function row(cells) {
  const made = document.createElement("tr");
  for (const cell of cells) {
    const told = cell instanceof HTMLTableCellElement ? cell : document.createElement("td");
    if (told !== cell) told.append(cell instanceof Node ? cell : String(cell));
    made.append(told);
  }
  return made;
}

function wide(text) {
  const cell = document.createElement("td");
  cell.className = "wide";
  cell.textContent = text;
  return cell;
}

const seconds = (number) => (number < 120 ? `${number.toFixed(1)} s` : `${Math.round(number / 60)} min`);
const moment = (time) => new Date(time).toLocaleString(undefined, { dateStyle: "short", timeStyle: "medium" });

let overview = null;

const askForKey = openGate({
  open(key) {
    overview?.close();
    overview = new Overview(key);
  },
  close() {
    overview?.close();
    overview = null;
    byId("overview").hidden = true;
  },
  lacking: "No operator's key",
});

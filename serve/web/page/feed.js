// The events WebSocket: comes back by itself, and resumes every job after the last number seen.

import { parse } from "./json.js";

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;
const BAD_KEY = 4401;
const ACK_MESSAGES = 16; // whichever comes first
const ACK_CHARS = 16 * 1024;

export class Feed {
  #seen = new Map(); // job id → number of the last event seen
  #socket = null;
  #pause = FIRST_PAUSE_MS;
  #timer = 0;
  #received = 0; // messages on this connection
  #unacked = { messages: 0, chars: 0 };

  /** `on` has event(event), state("connecting" | "open" | "offline") and badKey(). */
  constructor(key, on) {
    this.key = key;
    this.on = on;
    this.#connect();
  }

  /** Follow a job from after event `seq`. */
  watch(jobId, seq) {
    if (this.#seen.has(jobId)) return;
    this.#seen.set(jobId, seq);
    this.#say({ type: "watch", job_id: jobId, after: seq });
  }

  forget(jobId) {
    this.#seen.delete(jobId);
  }

  close() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  #connect() {
    this.on.state("connecting");
    const url = new URL("v1/events", location.href);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = new WebSocket(url);
    this.#socket = socket;
    socket.onopen = () => socket.send(JSON.stringify({ type: "authenticate", key: this.key }));
    this.#received = 0;
    this.#unacked = { messages: 0, chars: 0 };
    socket.onmessage = ({ data }) => {
      if (socket !== this.#socket) return;
      this.#take(parse(data));
      this.#acknowledge(data.length);
    };
    socket.onclose = ({ code }) => socket === this.#socket && this.#lost(code);
  }

  #lost(code) {
    this.#socket = null;
    if (code === BAD_KEY) {
      this.on.badKey();
      return;
    }
    this.on.state("offline");
    this.#timer = setTimeout(() => this.#connect(), this.#pause * (0.7 + 0.6 * Math.random()));
    this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE_MS);
  }

  #take(message) {
    if (message.type === "authenticated") {
      this.#pause = FIRST_PAUSE_MS;
      for (const [jobId, seq] of this.#seen) this.#say({ type: "watch", job_id: jobId, after: seq });
      this.#say({ type: "watch_all" });
      this.on.state("open");
    } else if (message.type === "error") {
      if (message.problem.code === "job_not_found") this.forget(message.job_id);
    } else {
      if (message.seq !== null) {
        if (message.seq <= (this.#seen.get(message.job_id) ?? 0)) return;
        this.#seen.set(message.job_id, message.seq);
      }
      this.on.event(message);
    }
  }

  /** The server sends only so much beyond what was acknowledged. */
  #acknowledge(chars) {
    this.#received += 1;
    this.#unacked.messages += 1;
    this.#unacked.chars += chars;
    if (this.#unacked.messages < ACK_MESSAGES && this.#unacked.chars < ACK_CHARS) return;
    this.#unacked = { messages: 0, chars: 0 };
    this.#say({ type: "ack", messages: this.#received });
  }

  #say(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }
}

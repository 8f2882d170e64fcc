// How the connection and the model are, in the page's head.

import { read } from "./api.js";

const READY_EVERY_MS = 5_000;

const element = document.getElementById("status");

export function status(state, text) {
  element.dataset.state = state;
  element.textContent = text;
}

/** Asks until the model is warm; from then on the connection's own state tells enough. */
export async function watchReadiness() {
  const answer = await fetch("ready").catch(() => null);
  if (element.dataset.state === "offline") return;
  if (answer?.ok) {
    status("ready", (await read(answer)).model);
  } else {
    status("waiting", "The model is warming up");
    setTimeout(watchReadiness, READY_EVERY_MS);
  }
}

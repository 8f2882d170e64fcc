// What is being drawn and what waits, and how many pictures come before each that waits.

const byId = (id) => document.getElementById(id);

/** `cards` are by image id, and ids sort by when they were asked for. */
export function tellQueue(cards) {
  const live = [...cards].filter(([, { picture, bar }]) => !picture && bar).sort(([a], [b]) => (a < b ? -1 : 1));
  const waiting = live.filter(([, card]) => !card.begun).map(([, card]) => card);
  waiting.forEach((card, before) => card.wait(before));
  const begun = live.length - waiting.length;
  byId("queue").hidden = live.length < 2;
  byId("queue-told").textContent = [
    begun && `${begun} being drawn`,
    waiting.length && `${waiting.length} waiting`,
  ].filter(Boolean).join(", ");
}

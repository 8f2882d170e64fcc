// What the artist drew by itself on a day, and why.

import { Api, Refused, keepKey } from "./api.js";
import { placeholder } from "./blurhash.js";
import { openGate } from "./gate.js";
import { status } from "./status.js";

const byId = (id) => document.getElementById(id);
const wall = byId("wall");

let api = null;
let today = new Date().toISOString().slice(0, 10); // the server knows better
let shown = null; // the day on the wall
let next = null; // cursor of the rest of it

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function told(day) {
  return new Date(`${day}T12:00:00Z`).toLocaleDateString("en", { dateStyle: "long", timeZone: "UTC" });
}

function neighbour(day, by) {
  const other = new Date(`${day}T12:00:00Z`);
  other.setUTCDate(other.getUTCDate() + by);
  return other.toISOString().slice(0, 10);
}

function reasons({ theme, choices, avoided, verdict }) {
  const list = element("dl");
  const add = (name, ...sentences) => {
    list.append(element("dt", "", name), ...sentences.map((each) => element("dd", "", each)));
  };
  if (theme) add("Theme", theme);
  for (const { slot, choice, reason } of choices) add(slot, `${choice}: ${reason}`);
  if (avoided.length) add("Avoided, as drawn before", avoided.join("; "));
  if (verdict) {
    const scores = Object.entries(verdict.scores).map(([index, score]) => {
      const kept = Number(index) === verdict.kept ? ", kept" : "";
      return `Picture ${Number(index) + 1}: ${score.toFixed(2)}${kept}`;
    });
    add("Scores for sharpness and colour", scores.join("; "));
  }
  return list;
}

function exhibit({ title, model, seed, created_at: createdAt, blurhash, files, why }) {
  const item = element("li");
  const figure = element("figure", "exhibit");
  const original = files.find(({ name }) => name === "original") ?? files[0];
  const small = files.find(({ name }) => name === "thumbnail-512") ?? files.find(({ name }) => name === "thumbnail");
  const frame = element("a", "frame");
  frame.href = original.url.slice(1); // below wherever a proxy puts the page
  frame.setAttribute("aria-label", `Open: ${title}`);
  frame.style.setProperty("--shape", `${original.width} / ${original.height}`);
  const haze = blurhash && placeholder(blurhash);
  if (haze) frame.append(haze);
  const image = element("img");
  image.alt = title;
  image.loading = "lazy";
  image.addEventListener("load", () => image.classList.add("shown"));
  image.src = (small ?? original).url.slice(1);
  frame.append(image);
  const caption = element("figcaption");
  const time = new Date(createdAt).toLocaleTimeString([], { timeStyle: "short" });
  const details = element("details");
  details.append(element("summary", "", "Why this picture"), reasons(why));
  caption.append(
    element("p", "title", title),
    element("p", "label", `${model}, seed ${seed}, ${time}`),
    details,
  );
  figure.append(frame, caption);
  item.append(figure);
  return item;
}

async function load(cursor) {
  const day = new URLSearchParams(location.search).get("date");
  const query = new URLSearchParams({ limit: "50" });
  if (day) query.set("date", day);
  if (cursor) query.set("after", cursor);
  byId("fault").textContent = "";
  try {
    const page = await api.json("GET", `v1/exhibition?${query}`);
    if (!day) today = page.date;
    if (!cursor) wall.replaceChildren();
    wall.append(...page.data.map(exhibit));
    shown = page.date;
    next = page.next;
    const name = shown === today ? "Today's exhibition" : `Exhibition of ${told(shown)}`;
    byId("day").textContent = name;
    document.title = `${name} · Sfumato`;
    byId("after").disabled = shown === today;
    byId("more").hidden = !page.has_more;
    byId("closed").hidden = page.open || wall.children.length > 0;
    byId("empty").hidden = !page.open || wall.children.length > 0;
    byId("exhibition").hidden = false;
    status("ready", "Open");
    byId("told").textContent = `${name}: ${wall.children.length} pictures`;
  } catch (refused) {
    if (!(refused instanceof Refused)) throw refused;
    if (refused.status === 401) {
      askForKey(refused.message);
    } else {
      byId("exhibition").hidden = false;
      status("offline", "No answer");
      byId("fault").textContent = refused.message;
    }
  }
}

function turn(by) {
  const day = neighbour(shown, by);
  const search = day === today ? "" : `?date=${day}`;
  history.pushState(null, "", location.pathname + search);
  load();
}

byId("before").addEventListener("click", () => turn(-1));
byId("after").addEventListener("click", () => turn(1));
byId("more").addEventListener("click", () => load(next));
addEventListener("popstate", () => load());

const askForKey = openGate({
  open(key) {
    api = new Api(key);
    load();
  },
  close() {
    keepKey(null);
    byId("exhibition").hidden = true;
  },
  lacking: "No key",
});

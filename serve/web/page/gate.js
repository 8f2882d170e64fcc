// A page that needs a key: it is asked for, kept in this browser, and may be changed.

import { findKey, keepKey } from "./api.js";
import { status } from "./status.js";

const byId = (id) => document.getElementById(id);

/**
 * Calls `open(key)` for the key of the address, the one that was kept, or one that is typed.
 * The function that it returns asks for another, says why, and calls `close()` before.
 */
export function openGate({ open, close, lacking }) {
  const enter = (key) => {
    byId("key-form").hidden = true;
    byId("change-key").hidden = false;
    open(key);
  };
  const ask = (fault = "") => {
    close();
    byId("change-key").hidden = true;
    byId("key-form").hidden = false;
    byId("key-fault").textContent = fault;
    status("offline", lacking);
    byId("key").focus();
  };
  byId("key-form").onsubmit = (event) => {
    event.preventDefault();
    const key = byId("key").value.trim();
    byId("key").value = "";
    keepKey(key);
    enter(key);
  };
  byId("change-key").onclick = () => ask();
  addEventListener("hashchange", () => location.hash.startsWith("#key=") && enter(findKey()));
  const key = findKey();
  if (key) enter(key);
  else ask();
  return ask;
}

/* The entry: what wakes the buttons of a page. */
import { FlattrButton } from "./element.js";
import { answered, refresh, soon } from "./page.js";
import { busy, send } from "./queue.js";

/* Somebody looks at the page again, or leaves it, or the network may be back. */
function wake() {
  answered.clear();
  busy.clear();
  send();
  soon();
}

// Loaded twice is loaded once.
if (!customElements.get("flattr-button")) {
  customElements.define("flattr-button", FlattrButton);
  for (const type of ["online", "pageshow", "pagehide", "visibilitychange"]) addEventListener(type, wake);
  addEventListener("storage", ({ key }) => {
    answered.delete(key?.slice(0, -37));
    refresh();
  });
  // A page of many routes: its address changes, and often a moment later its title and canonical link.
  window.navigation?.addEventListener("currententrychange", refresh);
  new MutationObserver(refresh).observe(document.head, { subtree: true, childList: true, attributes: true });
}

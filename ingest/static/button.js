/* <script async src="https://clicks.example/button.js" data-counters="https://api.example"></script>
 * <flattr-button creator="ann" thing="https://example.org/post"></flattr-button>; see docs/click.md */
(() => {
  "use strict";
  if (customElements.get("flattr-button")) return;
  const script = document.currentScript, given = script?.dataset ?? {};
  const home = script?.src ? new URL(script.src).origin : location.origin;
  const CLICK = "flattr:click:", PAUSE_MAX_MS = 6e4, KEEP_MS = 30 * 864e5;

  let store = {};
  try { store = localStorage; store.length; } catch { store = {}; }
  const waiting = () => Object.keys(store).filter((key) => key.startsWith(CLICK))
    .map((key) => [key, JSON.parse(store[key])]).sort((a, b) => a[1].body.clicked_at - b[1].body.clicked_at);

  const newId = () => crypto.randomUUID?.() ??
    "10000000-1000-4000-8000-100000000000".replace(/[018]/g, (c) =>
      (c ^ (crypto.getRandomValues(new Uint8Array(1))[0] & (15 >> (c / 4)))).toString(16));

  /* Token in the body: a beacon has no headers, and text/plain no preflight. */
  const packed = ({ body, token }) => JSON.stringify(token ? { ...body, token } : body);
  const tell = (type, detail) => document.dispatchEvent(new CustomEvent(type, { detail }));

  /* Oldest first, one at a time. A click keeps its id and stays stored until it is answered.
   * A beacon hears no answer: it only carries what is open when the page goes. */
  let timer, pauseMs = 1e3, sending = false;
  async function send() {
    clearTimeout(timer);
    if (sending) return;
    sending = true;
    let again = 0;
    for (const [key, click] of waiting()) {
      if (Date.now() - click.body.clicked_at > KEEP_MS) { delete store[key]; continue; }
      try {
        const answer = await fetch(click.url, {
          method: "POST", body: packed(click), keepalive: true, headers: { "content-type": "text/plain" },
          credentials: click.cookie ? "include" : "omit",
        });
        if ([408, 429].includes(answer.status) || answer.status > 499) {
          again = 1e3 * answer.headers.get("retry-after") || pauseMs;
          break;
        }
        delete store[key];
        pauseMs = 1e3;
        if (answer.ok) tell("flattr-kept", click.body);
        else tell("flattr-refused", { ...click.body, ...await answer.json().catch(() => ({})) });
      } catch { again = pauseMs; break; }
    }
    sending = false;
    if (again) {
      pauseMs = Math.min(pauseMs * 2, PAUSE_MAX_MS);
      timer = setTimeout(send, again);
    } else if (waiting().length) send();
  }
  addEventListener("online", () => { pauseMs = 1e3; send(); });
  addEventListener("pagehide", () => {
    for (const [, click] of waiting()) navigator.sendBeacon?.(click.url, packed(click));
  });

  class FlattrButton extends HTMLElement {
    static observedAttributes = ["creator", "thing", "counters"];
    #count = 0;
    #setting(name) { return this.getAttribute(name) ?? given[name]; }
    get creator() { return this.getAttribute("creator"); }
    get thing() {
      return this.getAttribute("thing") || document.querySelector("link[rel=canonical]")?.href || location.href.split("#")[0];
    }
    /* Where we remember that it was flattred this month. */
    get #mine() { return `flattr:mine:${new Date().toISOString().slice(0, 7)}:${this.creator}:${this.thing}`; }

    connectedCallback() {
      if (!this.shadowRoot) {
        this.attachShadow({ mode: "open" }).innerHTML = `<style>button{font:inherit;cursor:pointer;padding:.25em .7em;
border:1px solid #487b18;border-radius:.4em;background:#fff;color:#2c5a06}button[aria-pressed=true]{background:#487b18;
color:#fff}span{position:absolute;width:1px;height:1px;
overflow:hidden;clip-path:inset(50%)}</style><button type="button" part="button"></button><span role="status"></span>`;
        this.shadowRoot.querySelector("button").onclick = () => this.#click();
        document.addEventListener("flattr-refused", ({ detail }) => this.#refused(detail));
      }
      this.attributeChangedCallback();
    }

    attributeChangedCallback() {
      if (!this.shadowRoot) return;
      this.#show(0);
      this.#load();
    }

    #show(change, said) {
      this.#count = Math.max(0, this.#count + change);
      const [, button, status] = this.shadowRoot.children, pressed = this.#mine in store;
      button.setAttribute("aria-pressed", pressed);
      button.setAttribute("aria-label", `Flattr ${this.getAttribute("label") || this.thing}, ${this.#count} flattrs`);
      button.textContent = `${pressed ? "Flattred" : "Flattr"} ${this.#count}`;
      if (said) status.textContent = said;
    }

    async #load() {
      const base = this.#setting("counters");
      if (!base) return;
      try {
        const query = new URLSearchParams({ creator: this.creator, thing: this.thing });
        const { counters } = await (await fetch(`${base}/v1/counters?${query}`)).json();
        this.#show(Math.max(Object.values(counters)[0], this.#mine in store) - this.#count);
      } catch { /* go on */ }
    }

    #click() {
      const site = this.#setting("site"), token = this.#setting("token"), undo = this.#mine in store;
      const body = {
        v: 1, click_id: newId(), action: undo ? "undo" : "flattr", creator_id: this.creator, thing: this.thing,
        clicked_at: Date.now(),
      };
      const url = `${this.#setting("ingest") ?? home}/v1/clicks${site ? `?site=${encodeURIComponent(site)}` : ""}`;
      store[CLICK + body.click_id] = JSON.stringify({ url, token, cookie: !!site && !token, body });
      if (undo) delete store[this.#mine];
      else store[this.#mine] = body.click_id;
      this.#show(undo ? -1 : 1, undo ? "Taken back" : "Flattred");
      send();
    }

    #refused({ click_id, detail, reason }) {
      if (store[this.#mine] !== click_id) return;
      delete store[this.#mine];
      this.#show(-1, `Not taken: ${detail ?? reason ?? "try again"}`);
    }
  }
  customElements.define("flattr-button", FlattrButton);
  send();
})();

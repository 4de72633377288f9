/* <script async src="https://clicks.example/button.js" data-counters="https://api.example"></script>
 * <flattr-button creator="ann" thing="https://example.org/post"></flattr-button>; see docs/click.md */
(() => {
  "use strict";
  if (customElements.get("flattr-button")) return;
  const script = document.currentScript, given = script?.dataset ?? {};
  const home = new URL(script?.src || location).origin;
  const CLICK = "flattr:click:", KEEP_MS = 30 * 864e5;

  let store;
  try { store = localStorage; store.length; } catch { store = {}; }
  const waiting = () => Object.keys(store).filter((key) => key.startsWith(CLICK))
    .map((key) => [key, JSON.parse(store[key])]).sort((a, b) => a[1].body.clicked_at - b[1].body.clicked_at);

  /* Without TLS, take the UUID of an object URL. */
  const newId = () => crypto.randomUUID?.() ?? URL.createObjectURL(new Blob()).slice(-36);

  /* Now, by the clock of clicked_at; by the page's timer if it was set since (from 1970). */
  const pressed = {};
  const sentAt = ({ click_id, clicked_at }, now = Date.now()) => {
    const own = clicked_at + Math.round(performance.now() - pressed[click_id]);
    return Math.abs(now - own) > KEEP_MS ? own : now;
  };
  /* Token in the body: sendBeacon has no headers, plain text no preflight. */
  const packed = ({ body, token }) => JSON.stringify({ ...body, sent_at: sentAt(body), token });

  /* Oldest first, one at a time, stored until answered; beacons get no answer. */
  let timer, pauseMs = 1e3, sending;
  async function send() {
    clearTimeout(timer);
    if (sending) return;
    sending = true;
    let ms = 0;
    for (const [key, click] of waiting()) {
      const { body } = click;
      if (body.clicked_at > 1e12 && sentAt(body) - body.clicked_at > KEEP_MS) { delete store[key]; continue; }
      try {
        const answer = await fetch(click.url, {
          method: "POST", body: packed(click), keepalive: true, credentials: click.cookie ? "include" : "omit",
        });
        if ([408, 429].includes(answer.status) || answer.status > 499) {
          ms = 1e3 * answer.headers.get("retry-after") || pauseMs;
          break;
        }
        delete store[key];
        pauseMs = 1e3;
        const detail = { ...body, ...await answer.json().catch(() => ({})) };
        document.dispatchEvent(new CustomEvent(answer.ok ? "flattr-kept" : "flattr-refused", { detail }));
      } catch { ms = pauseMs; break; }
    }
    sending = false;
    if (ms) {
      pauseMs = Math.min(pauseMs * 2, 6e4);
      timer = setTimeout(send, ms * (1 + Math.random()));
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
    get #mine() { return `flattr:mine:${new Date().toISOString().slice(0, 7)}:${this.creator}:${this.thing}`; }

    connectedCallback() {
      if (!this.shadowRoot) {
        this.attachShadow({ mode: "open" }).innerHTML = `<style>button{font:inherit;cursor:pointer;padding:.25em .7em;
border:1px solid #487b18;border-radius:.4em;background:#fff;color:#2c5a06}button[aria-pressed=true]{background:#487b18;
color:#fff}span{position:absolute;clip-path:inset(50%)}</style><button type="button" part="button"></button><span role="status"></span>`;
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
      } catch {}
    }

    #click() {
      const site = this.#setting("site"), token = this.#setting("token"), undo = this.#mine in store;
      const body = {
        v: 1, click_id: newId(), action: undo ? "undo" : "flattr", creator_id: this.creator, thing: this.thing,
        clicked_at: Date.now(),
      };
      pressed[body.click_id] = performance.now();
      const url = `${this.#setting("ingest") ?? home}/v1/clicks${site ? `?site=${encodeURIComponent(site)}` : ""}`;
      store[CLICK + body.click_id] = JSON.stringify({ url, token, cookie: !!site && !token, body });
      if (undo) delete store[this.#mine];
      else store[this.#mine] = body.click_id;
      this.#show(undo ? -1 : 1, undo ? "Undone" : "Flattred");
      send();
    }

    #refused({ click_id, detail, reason }) {
      if (store[this.#mine] !== click_id) return;
      delete store[this.#mine];
      this.#show(-1, `Refused: ${detail ?? reason ?? "try again"}`);
    }
  }
  customElements.define("flattr-button", FlattrButton);
  send();
})();

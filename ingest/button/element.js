/* <flattr-button creator="ann" thing="https://example.org/post"></flattr-button>: what a reader sees and presses. */
import { answered, buttons, refresh, soon, want } from "./page.js";
import { expired, learn, send, troubles } from "./queue.js";
import { PREFIX, add, load, read, write } from "./records.js";
import { number, press } from "./state.js";
import { wordsIn } from "./texts.js";

const NAMES = ["creator", "thing", "label", "counters", "ingest", "site", "token", "join"], HANDED = "flattr:token";
const CSS = `button{font:inherit;padding:.25em .7em;margin-inline-end:.4em;border:1px solid #487b18;border-radius:.4em;background:#fff;
color:#2c5a06;cursor:pointer}.on{background:#487b18;color:#fff}.on:before{content:"✓ "/""}`;

// `document.currentScript` is null in a module and behind many loaders; the stack has our address all the same.
const home = `${/http[^\s()]+/.exec(Error().stack)}`;
// Asked for by their kind: what readers write may bring an image that is called `scripts`, or `currentScript`.
const script = [...document.querySelectorAll("script")].find(
  (one) => (one.src && home.startsWith(one.src)) || one === document.currentScript,
);
const defaults = {
  // A file of another name is the site's own bundle, and its origin is not ingest's.
  ingest: /\/button(-\w+)?\.js/.test(home) && new URL(home).origin,
  get thing() {
    return document.querySelector("link[rel=canonical]")?.href || location.href.split("#")[0];
  },
  ...script?.dataset,
};
const sheet = new CSSStyleSheet();
sheet.replaceSync(CSS);

export class FlattrButton extends HTMLElement {
  static observedAttributes = NAMES;
  #pieces;

  constructor() {
    super();
    // What a framework set before the script came.
    for (const [name, value] of Object.entries(this)) {
      delete this[name];
      this[name] = value;
    }
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [sheet];
    this.#pieces = ["button", "monthly", "message"].map((part, number) => {
      const piece = root.appendChild(document.createElement(number < 2 ? "button" : "span"));
      piece.part = part;
      if (number) piece.role = number < 2 ? "switch" : "status";
      if (number < 2) piece.onclick = () => this.#press(number);
      return piece;
    });
  }

  connectedCallback() {
    buttons.add(this);
    this.show();
    soon();
  }

  disconnectedCallback() {
    buttons.delete(this);
  }

  attributeChangedCallback() {
    if (buttons.has(this)) this.connectedCallback();
  }

  /* Show the state and the number, and say what to ask for. */
  show() {
    const { creator, thing, token, ingest, site, counters } = this, [button, monthly, message] = this.#pieces;
    const pair = `&${new URLSearchParams({ creator, thing })}`;
    if (pair !== this.pair) {
      this.pair = pair;
      this.count = undefined;
      soon();
    }
    const bearer = token && !expired.has(token) ? token : read(HANDED) ?? token;
    const key = `${PREFIX}${learn(bearer)} ${creator} ${thing}`, own = load(key), [waits] = own.clicks;
    if (bearer !== this.bearer) troubles.delete(key);
    const trouble = troubles.get(key), isExpired = expired.has(bearer), isOut = isExpired || /^token/.test(trouble);
    const missing = creator && ingest ? "" : `flattr-button: no ${creator ? "ingest" : "creator"}`;
    Object.assign(this, { isOut: isOut || !(bearer || site), bearer, key, missing, number: number(own, this.count) });
    if (counters && this.wrong !== pair && !missing) {
      want(`${counters}/v1/counters?`, "", this);
      if (bearer && !answered.has(key)) want(`${counters}/v1/me/flattrs?`, bearer, this);
    }

    const { lang } = this.closest("[lang]") ?? document.documentElement;
    const [numbers, month, signIn, refusal] = wordsIn(lang);
    this.#paint(button, "ariaPressed", this.number >= 0 ? "Flattr " + numbers.format(this.number) : "Flattr", own.given);
    monthly.hidden = !(own.given || own.monthly);
    if (!monthly.hidden) this.#paint(monthly, "ariaChecked", "↻ " + month, own.monthly);
    const failed = trouble > 0 ? waits && refusal + "…" : trouble && refusal;
    const said = missing || (isOut && (waits || !isExpired) && signIn) || failed || "";
    // Said again, it is read out again.
    if (message.textContent !== said) message.textContent = said;
  }

  #paint(piece, state, text, isOn) {
    piece.textContent = text;
    piece.ariaLabel = `${text}: ${this.label || this.thing}`;
    piece[state] = !!isOn;
    piece.className = isOn ? "on" : "";
  }

  /* What a press does is what its piece shows. */
  #press(number) {
    const isOn = this.#pieces[number].className > "", shown = this.key;
    const action = ["flattr", "subscribe", "undo", "unsubscribe"][number + 2 * isOn];
    const act = () => {
      const { ingest, site, key } = this, url = `${ingest}/v1/clicks${site && `?${new URLSearchParams({ site })}`}`;
      const own = { ...press(load(key), number, isOn, this.number), url, token: this.bearer };
      add(key, own, { action, creator_id: this.creator, thing: this.thing });
      troubles.delete(key);
      refresh();
      send();
    };
    refresh();
    // The page may have moved on under the button: what it showed is not to be taken back here.
    if (isOn && this.key !== shown) return;
    if (this.missing) console.error(this.missing, this);
    else if (this.isOut && this.join) {
      // The platform's page hands a token to the page that asked for it.
      const url = new URL(this.join, location);
      url.searchParams.set("origin", location.origin);
      const popup = open(url, "flattr", "popup");
      let isDone;
      addEventListener("message", ({ source, origin, data }) => {
        if (source !== popup || origin !== url.origin || !data?.flattrToken) return;
        write(HANDED, data.flattrToken);
        refresh();
        // A window that stays may bring a newer token later: nobody has pressed again.
        if (!isDone && !load(this.key).clicks[0] && (!isOn || this.key === shown)) act();
        isDone = 1;
        send();
      });
    } else if (this.bearer || this.site) act();
    else {
      troubles.set(shown, "token");
      refresh();
    }
  }
}

for (const name of NAMES) {
  Object.defineProperty(FlattrButton.prototype, name, {
    get() {
      const value = this.getAttribute(name) || defaults[name] || "";
      return /^i|s$/.test(name) ? value.replace(/\/$/, "") : value;
    },
    set(value) {
      this.setAttribute(name, value ?? "");
    },
  });
}

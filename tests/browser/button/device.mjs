/* A browser without a screen: enough of one to run the built button.js as it is, on a clock of the test's own.
 *
 * `World` has the time and what is to happen when; `Device` is one browser with its storage and its clock, right or wrong;
 * `Tab` one page in it with a button each for some things. Whoever answers the requests is given to the world.
 *
 * Storage is as in Chromium, whose tabs are processes: each reads its own copy, what it writes gets to the browser a while
 * later, from there to the other tabs, and last of all the `storage` event. */
import { readFileSync } from "node:fs";
import vm from "node:vm";

const SCRIPT = new vm.Script(readFileSync(new URL("../../../ingest/http/static/button.js", import.meta.url), "utf8"), {
  filename: "https://clicks.example/button.js",
});
/* How long a write takes at most from a tab to the browser, and from there to another. */
export const STORAGE_MS = 300;
const settled = () => new Promise((resolve) => setImmediate(resolve));

export class World {
  now = Date.UTC(2026, 10, 15, 12);
  #due = [];
  #order = 0;

  /* `answer(request, tab)` resolves to a Response, or rejects as a network does. */
  constructor(answer, random) {
    this.answer = answer;
    this.random = random;
  }

  at(ms, what) {
    const entry = { when: this.now + Math.max(0, ms), order: this.#order++, what };
    this.#due.push(entry);
    return entry;
  }

  cancel(entry) {
    this.#due = this.#due.filter((other) => other !== entry);
  }

  /* Let the time pass, and happen what is due. */
  async pass(ms) {
    const end = this.now + ms;
    for (;;) {
      await settled();
      const [next] = this.#due.toSorted((a, b) => a.when - b.when || a.order - b.order);
      if (!next || next.when > end) break;
      this.cancel(next);
      this.now = Math.max(this.now, next.when);
      next.what();
    }
    this.now = end;
    await settled();
  }
}

function put(map, key, value) {
  if (value === undefined) map.delete(key);
  else map.set(key, value);
}

export class Device {
  tabs = new Set();
  isOnline = true;
  /* How far the clock is from the world's, in ms. */
  skew = 0;
  /* What the browser has; a tab's own copy is its `view`. */
  stored = new Map();
  isFull = false;
  /* The clicks that were made here while storage took them: {id, member, number of the thing, when}. */
  made = [];

  constructor(world) {
    this.world = world;
  }

  now() {
    return Math.max(0, this.world.now + this.skew);
  }

  /* A tab's write arrives (undefined removes). Tabs that have written the same key since will be heard after it. */
  write(key, value, writer) {
    put(this.stored, key, value);
    for (const tab of this.tabs) {
      if (tab === writer) continue;
      this.world.at(tab.delayMs, () => {
        if (tab.unheard.get(key)) return;
        put(tab.view, key, value);
        this.world.at(tab.delayMs * this.world.random(), () => tab.fire("storage", { key }));
      });
    }
  }

  /* localStorage as a tab sees it. */
  storage(tab) {
    const change = (key, value) => {
      if (tab.view.get(key) === value) return true;
      put(tab.view, key, value);
      tab.unheard.set(key, (tab.unheard.get(key) ?? 0) + 1);
      this.world.at(tab.delayMs, () => {
        this.write(key, value, tab);
        this.world.at(tab.delayMs, () => tab.unheard.set(key, tab.unheard.get(key) - 1));
      });
      return true;
    };
    return new Proxy({}, {
      get: (_, key) => tab.view.get(key),
      set: (_, key, value) => {
        if (this.isFull) throw new Error("QuotaExceededError");
        return change(key, `${value}`);
      },
      deleteProperty: (_, key) => change(key, undefined),
      ownKeys: () => [...tab.view.keys()],
      getOwnPropertyDescriptor: (_, key) => ({ value: tab.view.get(key), enumerable: true, configurable: true }),
    });
  }

  setOnline(isOnline) {
    this.isOnline = isOnline;
    if (isOnline) for (const tab of this.tabs) tab.fire("online");
  }
}

class Element {
  #attributes = new Map();
  getAttribute = (name) => this.#attributes.get(name) ?? null;
  closest = () => null;
  setAttribute(name, value) {
    this.#attributes.set(name, `${value}`);
    this.attributeChangedCallback?.(name);
  }
  attachShadow() {
    this.shadowRoot = { pieces: [], appendChild: (piece) => (this.shadowRoot.pieces.push(piece), piece) };
    return this.shadowRoot;
  }
}

export class Tab {
  #listeners = new Map();
  #timers = new Map();
  #number = 0;
  isOpen = true;
  /* Key -> how many of its own writes the browser has not yet confirmed. */
  unheard = new Map();

  /* `settings` are the attributes of every button, `things` has creator and thing of each. */
  constructor(device, settings, things) {
    this.device = device;
    const opened = device.world.now, tab = this;
    this.view = new Map(device.stored);
    this.delayMs = [0, 1, 40, STORAGE_MS][Math.floor(4 * device.world.random())];
    device.tabs.add(this);
    const document = {
      querySelectorAll: () => [], currentScript: null, hidden: false, head: {}, documentElement: { lang: "en" },
      createElement: () => ({}), querySelector: () => null, dispatchEvent: () => true,
    };
    class TabDate extends Date {
      constructor(...given) {
        super(...(given.length ? given : [device.now()]));
      }
      static now = () => device.now();
    }
    let Button;
    this.window = {
      document, Date: TabDate, localStorage: device.storage(this), location: { href: "https://site.example/", origin: "https://site.example" },
      HTMLElement: Element, CSSStyleSheet: class { replaceSync() {} }, MutationObserver: class { observe() {} }, CustomEvent: class {},
      customElements: { get: () => Button, define: (_, made) => (Button = made) },
      performance: { now: () => device.world.now - opened },
      Math: Object.assign(Object.create(Math, Object.getOwnPropertyDescriptors(Math)), { random: () => device.world.random() }),
      URL: class extends URL { static createObjectURL = () => `blob:${tab.#newId()}`; }, Blob: class {}, URLSearchParams, atob, console: { error() {} },
      setTimeout: (what, ms) => {
        const number = ++this.#number;
        this.#timers.set(number, device.world.at(ms ?? 0, () => this.isOpen && what()));
        return number;
      },
      clearTimeout: (number) => device.world.cancel(this.#timers.get(number)),
      addEventListener: (type, what) => this.#listeners.set(type, [...(this.#listeners.get(type) ?? []), what]),
      fetch: (url, init = {}) => device.world.answer({ url: `${url}`, ...init }, this),
    };
    this.window.window = this.window;
    SCRIPT.runInContext(vm.createContext(this.window));
    this.buttons = things.map(({ creator, thing }) => {
      const button = new Button();
      for (const [name, value] of Object.entries({ ...settings, creator, thing })) button.setAttribute(name, value);
      button.connectedCallback();
      return button;
    });
  }

  #newId() {
    const digits = () => Math.floor(this.device.world.random() * 65536).toString(16).padStart(4, "0");
    const id = `${digits()}${digits()}-${digits()}-4${digits().slice(1)}-8${digits().slice(1)}-${digits()}${digits()}${digits()}`;
    if (!this.device.isFull) this.device.made.push({ id, member: this.member, number: this.pressed, when: this.device.world.now });
    return id;
  }

  fire(type, event = {}) {
    if (this.isOpen) for (const what of this.#listeners.get(type) ?? []) what(event);
  }

  setToken(token) {
    for (const button of this.buttons) button.setAttribute("token", token);
  }

  /* What a button shows: whether it is pressed, its text, its message. */
  shown(number) {
    const [button, , message] = this.buttons[number].shadowRoot.pieces;
    return { isGiven: button.ariaPressed === true, text: button.textContent, message: message.textContent };
  }

  press(number) {
    this.pressed = number;
    this.buttons[number].shadowRoot.pieces[0].onclick();
  }

  /* The reader looks at another tab, and at this one again. */
  show(isShown) {
    this.window.document.hidden = !isShown;
    this.fire("visibilitychange");
  }

  /* Closed properly, or the process is gone. */
  close(isProper = true) {
    if (isProper) this.fire("pagehide");
    this.isOpen = false;
    this.device.tabs.delete(this);
  }
}

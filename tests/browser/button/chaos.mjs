/* Seeded evenings of two members on three browsers against a model of the server: `node chaos.mjs FIRST LAST`.
 *
 * The network goes and comes back, answers get lost, storage is corrupted or full, tabs are closed or killed, two tabs of a
 * browser are pressed at once, tokens expire, clocks stand at 1970 or 2030 or are set. When it is quiet again, no press that
 * storage took may be lost, none may have come before one that its tab knew of, and every button must show what the server
 * has. */
import { Device, STORAGE_MS, Tab, World } from "./device.mjs";
import { Server } from "./server.mjs";

const THINGS = [{ creator: "bob", thing: "https://example.org/a" }, { creator: "cleo", thing: "b?c=1 &d" }];
const SETTINGS = { counters: "https://api.example", ingest: "https://clicks.example" };
/* What is no record, and records whose clicks are none. */
const CORRUPT = ["undefined", '{"url":', "null", "{}", "[]", "7", '{"clicks":[null]}', '{"clicks":7,"month":"2026-11"}'];
const STEPS = 40, HOUR_MS = 36e5;

/* mulberry32 */
function generator(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/* What the versions before this one stored: clicks of a thing in one record, and a record for a click. */
function before(device, now, { creator, thing }) {
  const common = { url: `${SETTINGS.ingest}/v1/clicks`, token: Server.token("ann", now + HOUR_MS) };
  const [first, second, third] = ["flattr", "undo", "flattr"].map((action, number) => {
    const click_id = `0000000${number}-0000-4000-8000-000000000000`, clicked_at = now - 9e3 + 1e3 * number;
    device.made.push({ id: click_id, member: "ann", number: number < 2 ? 0 : -1, when: clicked_at });
    return { v: 1, click_id, action, creator_id: creator, thing: number < 2 ? thing : `${thing}/old`, clicked_at };
  });
  device.stored.set(`flattr:click:ann ${creator} ${thing}`, JSON.stringify({ ...common, v: 2, month: "2026-11", given: false, base: 1, clicks: [first, second] }));
  device.stored.set(`flattr:click:${third.click_id}`, JSON.stringify({ ...common, body: third }));
}

async function evening(seed) {
  const random = generator(seed), server = new Server();
  const world = new World((request, tab) => server.answer(request, tab), random);
  server.attach(world);
  const one = (of) => of[Math.floor(random() * of.length)];
  const devices = [new Device(world), new Device(world), new Device(world)];
  before(devices[1], world.now, THINGS[0]);
  // Ann has two devices; the third is shared with Bea.
  const members = new Map([[devices[0], ["ann"]], [devices[1], ["ann"]], [devices[2], ["ann", "bea"]]]);
  const token = (member) => Server.token(member, world.now + (random() < 0.3 ? 5e3 : HOUR_MS));
  const open = (device, member = one(members.get(device))) => {
    const tab = new Tab(device, { ...SETTINGS, token: token(member) }, THINGS);
    tab.member = member;
    return tab;
  };
  const tabs = () => devices.flatMap((device) => [...device.tabs]);
  const log = [];
  const steps = {
    press: () => tabs().length && one(tabs()).press(random() < 0.7 ? 0 : 1),
    // Within the time of the first one's request, or of its write.
    pair: () => {
      const [first, second] = [...one(devices).tabs].toSorted(() => random() - 0.5), number = random() < 0.7 ? 0 : 1;
      first?.press(number);
      if (second) world.at(400 * random(), () => second.isOpen && second.press(number));
    },
    open: () => tabs().length < 8 && open(one(devices)),
    close: () => tabs().length && one(tabs()).close(random() < 0.5),
    cut: () => one(devices).setOnline(false),
    mend: () => one(devices).setOnline(true),
    corrupt: () => one(devices).write(`flattr:click:${one(["zz", "ann bob https://example.org/z", "x y"])}`, one(CORRUPT)),
    full: () => (one(devices).isFull = random() < 0.5),
    clock: () => (one(devices).skew = one([0, 0, 60_000 - world.now, Date.UTC(2030, 0, 1) - world.now, 5_000, -90_000])),
    trouble: () => (server.trouble = one([{ lost: 0, unanswered: 0, busy: 0 }, { lost: 0.3, unanswered: 0.3, busy: 0.2 }])),
    token: () => tabs().length && (({ member }, tab = one(tabs())) => tab.setToken(token(tab.member)))({}),
    look: () => tabs().length && one(tabs()).show(random() < 0.5),
    member: () => {
      const tab = [...devices[2].tabs][0];
      if (!tab) return;
      tab.member = one(["ann", "bea"]);
      tab.setToken(token(tab.member));
    },
  };
  const weights = { press: 10, pair: 4, open: 4, close: 2, cut: 2, mend: 3, corrupt: 1, full: 1, clock: 1, trouble: 2, token: 2, look: 2, member: 1 };
  const bag = Object.entries(weights).flatMap(([name, weight]) => Array(weight).fill(name));
  for (let step = 0; step < STEPS; step++) {
    const name = one(bag);
    log.push(`${world.now} ${name}`);
    steps[name]();
    await world.pass(random() < 0.3 ? 20_000 * random() : 800 * random());
  }
  // It is quiet again: the network works, clocks are right, every browser is opened by those who used it.
  server.trouble = { lost: 0, unanswered: 0, busy: 0 };
  for (const device of devices) {
    device.isFull = false;
    device.skew = 0;
    device.setOnline(true);
    for (const member of members.get(device)) {
      const tab = new Tab(device, { ...SETTINGS, token: Server.token(member, world.now + 24 * HOUR_MS) }, THINGS);
      tab.member = member;
    }
  }
  for (const tab of tabs()) tab.setToken(Server.token(tab.member, world.now + 24 * HOUR_MS));
  for (const tab of tabs()) tab.show(true);
  await world.pass(120_000);
  for (const tab of tabs()) tab.show(true);
  await world.pass(60_000);
  const wrong = [];
  for (const device of devices) {
    const waiting = [...device.stored].filter(([key, value]) => key.startsWith("flattr:click:") && JSON.parse(value).clicks[0]);
    if (waiting.length) wrong.push({ waiting });
    if (device.stored.has("flattr:click:zz")) wrong.push("what is corrupt is still there");
    const lost = device.made.filter(({ id }) => !server.clicks.has(id));
    if (lost.length) wrong.push({ lost });
    const arrived = [...server.clicks.keys()], at = ({ id }) => arrived.indexOf(id);
    const late = device.made.filter((click) => device.made.some((next) => next.when > click.when + 2 * STORAGE_MS
      && next.member === click.member && next.number === click.number && at(next) < at(click)));
    if (late.length) wrong.push({ late });
  }
  for (const tab of tabs()) {
    THINGS.forEach(({ creator, thing }, number) => {
      const name = `${creator} ${thing}`, shown = tab.shown(number);
      const right = { isGiven: server.isGiven(tab.member, name), text: `Flattr ${server.count(name)}`, message: "" };
      if (JSON.stringify(shown) !== JSON.stringify(right)) wrong.push({ member: tab.member, name, shown, right });
    });
  }
  return { wrong, log, clicks: server.clicks.size, requests: server.requests.length };
}

const [first, last] = process.argv.slice(2).map(Number);
let clicks = 0;
for (let seed = first; seed <= last; seed++) {
  const found = await evening(seed);
  clicks += found.clicks;
  if (found.wrong.length) {
    console.error(`seed ${seed}: ${JSON.stringify(found.wrong, null, 1)}`);
    if (first === last) console.error(found.log.join("\n"), JSON.stringify([...found.server ?? []]));
    process.exitCode = 1;
  }
}
console.log(`${last - first + 1} evenings, ${clicks} clicks taken`);

/* What this browser holds of each member's things, in localStorage; in memory what that does not take: it may be full,
 * switched off or null. A press writes a record of its own, which nobody writes again but whoever has ingest's answer, so
 * that no tab overwrites another's press. The state is that of the last one.
 *
 * {v, n, month, url, token, given, monthly, base, at, clicks} under "SUBJECT CLICK_ID", where a subject is
 * "flattr:click:MEMBER CREATOR THING", `n` orders its records, and state.js explains the last ones. Under the subject
 * itself is what the server said, without `n`. The versions before had all clicks of a subject there, or {url, token, body}
 * under a click's id; they are sent as well. */
export const PREFIX = "flattr:click:";
const SET_MS = 30 * 864e5, memory = {}, pressedAt = {}, month = () => new Date().toISOString().slice(0, 7);

function disk(work) {
  try {
    return work(localStorage);
  } catch {}
}

export const read = (key) => memory[key] ?? disk((store) => store[key]);
export function drop(key) {
  delete memory[key];
  disk((store) => delete store[key]);
}
/* Where storage refuses, it keeps what it had: clicks in there are sent again rather than lost. */
export function write(key, text) {
  delete memory[key];
  disk((store) => (store[key] = text)) ?? (memory[key] = text);
}
/* JSON of what is in a value, and not of what a page's toJSON() makes of it: Prototype and MooTools once gave arrays one. */
export const text = (value) => JSON.stringify(value, function (key) {
  return this[key];
});
export const save = (key, own) => write(key, text({ month: month(), ...own, v: 3 }));
/* Not Date.now(), which old Datejs replaces by something that is no number. */
export const now = () => +new Date();

/* Now, by the clock of clicked_at; by the page's timer if the clock was set since (from 1970). How old a click may be is
 * for ingest to say: this clock may be wrong. */
export function sentAt({ click_id, clicked_at }, at = now()) {
  const own = clicked_at + Math.round(performance.now() - pressedAt[click_id]);
  return Math.abs(at - own) > SET_MS ? own : at;
}

/* All records, the first press first, each with its key and subject. One of another month waits, and says nothing of this
 * one; what is settled of it, or no record, is removed. */
export function records(prefix = PREFIX) {
  const found = [];
  for (const key of [...Object.keys(memory), ...(disk(Object.keys) ?? [])]) {
    if (!key.startsWith(prefix)) continue;
    try {
      const own = JSON.parse(read(key)), { body, url, token, n = 0, clicks: all = [body] } = own, isNow = own.month === month();
      const clicks = all.filter((click) => click.clicked_at >= 0);
      const subject = n ? key.slice(0, -37) : key;
      if (clicks[0] || isNow) found.push({ ...(isNow ? own : { url, token }), n, clicks, key, subject });
      else drop(key);
    } catch {
      // A page whose JSON cannot read at all is no reason to remove what others stored.
      if (JSON.parse) drop(key);
    }
  }
  return found.sort((a, b) => a.n - b.n);
}

export const about = (subject) => records(subject).filter((own) => own.subject === subject);

export const load = (subject) => about(subject).at(-1) ?? { clicks: [] };

export function add(subject, own, click) {
  // The UUID of an object URL: randomUUID() is missing without TLS.
  const click_id = URL.createObjectURL(new Blob()).slice(-36), clicked_at = now();
  const n = Math.max(clicked_at, load(subject).n ?? 0) + 1;
  pressedAt[click_id] = performance.now();
  save(`${subject} ${click_id}`, { ...own, n, clicks: [{ v: 1, click_id, clicked_at, ...click }] });
}

/* Ingest took the first click of a record, or refused it. Another tab may have heard it before. */
export function settle({ key, subject, n }, { click_id }, isRefused) {
  for (const own of about(subject)) {
    const clicks = own.clicks.filter((click) => click.click_id !== click_id);
    if (!clicks[0] && (own.key === key ? isRefused : own.n < n)) drop(own.key);
    else if (own.key === key) save(key, { ...own, clicks, at: now() });
  }
}

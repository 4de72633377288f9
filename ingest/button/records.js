/* What this browser holds of each member's things: a record a key, so that tabs seldom write the same.
 * {v, month, url, token, given, monthly, base, at, clicks}: state.js explains the last ones. Clicks of the first version,
 * {url, token, body}, are sent as well. */
import { drop, read, write } from "./store.js";

export const PREFIX = "flattr:click:";
const SET_MS = 30 * 864e5, pressedAt = {}, month = () => new Date().toISOString().slice(0, 7);

/* Now, by the clock of clicked_at; by the page's timer if the clock was set since (from 1970). How old a click may be is
 * for ingest to say: this clock may be wrong. */
export function sentAt({ click_id, clicked_at }, now = Date.now()) {
  const own = clicked_at + Math.round(performance.now() - pressedAt[click_id]);
  return Math.abs(now - own) > SET_MS ? own : now;
}

/* The record under a key. What is none is removed; what is of another month waits, and says nothing of this one. */
export function load(key) {
  const text = read(key);
  try {
    const own = text ? JSON.parse(text) : { clicks: [] }, { body, url, token } = own;
    const clicks = (own.clicks ?? [body]).filter((click) => click.clicked_at >= 0);
    if (own.month === month()) return { ...own, clicks };
    if (clicks[0]) return { url, token, clicks };
  } catch {}
  if (text) drop(key);
  return { clicks: [] };
}

export const save = (key, own) => write(key, JSON.stringify({ ...own, v: 2, month: month() }));

export function newClick(action, creator_id, thing) {
  // The UUID of an object URL: randomUUID() is missing without TLS.
  const click_id = URL.createObjectURL(new Blob()).slice(-36);
  pressedAt[click_id] = performance.now();
  return { v: 1, click_id, action, creator_id, thing, clicked_at: Date.now() };
}

/* Sends what waits. A click stays until ingest itself has answered it; one that is stuck holds up only its own thing. */
import { answered, refresh, soon } from "./page.js";
import { PREFIX, load, save, sentAt } from "./records.js";
import { keys } from "./store.js";

/* Keys that are being sent, or wait for their next attempt. */
export const busy = new Set();
/* Key -> how often sending failed, or why ingest refused the last press. */
export const troubles = new Map();
/* Tokens that ingest called expired. */
export const expired = new Set();
/* Member -> the token that the page had last. */
const newest = new Map();

/* The member of a token, "" for whoever the cookie says it is: a key in this browser. Ingest checks the claims. */
export function memberOf(token) {
  try {
    return token && JSON.parse(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/"))).sub;
  } catch {
    return token;
  }
}

export function learn(token, member = memberOf(token)) {
  if (!expired.has(token)) newest.set(member, token);
  return member;
}

export function send() {
  for (const key of keys().filter((key) => key.startsWith(PREFIX))) {
    const { clicks: [click], url, token } = load(key), fresh = newest.get(memberOf(token)) ?? token;
    if (click && !busy.has(key) && !expired.has(fresh)) attempt(key, url, fresh, click);
  }
}

async function attempt(key, url, token, click) {
  let answer, verdict, reason, wait = 0;
  busy.add(key);
  try {
    // The token in the body needs no preflight. The request outlives the page.
    const body = JSON.stringify({ ...click, sent_at: sentAt(click), token });
    answer = await fetch(url, { method: "POST", body, keepalive: true, credentials: token ? "omit" : "include" });
    verdict = await answer.json();
    if (/^urn:flattr/.test(verdict.type)) ({ reason } = verdict);
  } catch {}
  if (verdict?.receipts || (reason && !/408|429|5../.test(answer.status) && !/_e[ax]/.test(reason))) {
    const own = load(key);
    own.clicks = own.clicks.filter(({ click_id }) => click_id !== click.click_id);
    own.at = Date.now();
    if (reason && !own.clicks[0]) Object.assign(own, { given: false, at: 0, base: -1 });
    save(key, own);
    troubles.set(key, reason);
    answered.delete(key);
    soon();
    document.dispatchEvent(new CustomEvent(reason ? "flattr-refused" : "flattr-kept", { detail: { ...click, ...verdict } }));
  } else {
    const failed = +troubles.get(key) || 0;
    wait = Math.max(1e3 * answer?.headers.get("retry-after") || 0, 2 ** Math.min(failed, 6) * (200 + 1e3 * Math.random()));
    troubles.set(key, failed + 1);
    if (!reason) console.error("flattr-button: no answer of ingest", answer);
    else if (token && /ex/.test(reason)) expired.add(token);
  }
  setTimeout(() => (busy.delete(key), send()), Math.min(wait, 36e5));
  refresh();
}

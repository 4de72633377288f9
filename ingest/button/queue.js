/* Sends what waits. A click stays until ingest itself has answered it; one that is stuck holds up only its own thing. */
import { answered, refresh, soon } from "./page.js";
import { records, sentAt, settle, text } from "./records.js";

/* Subjects that are being sent, or wait for their next attempt. */
export const busy = new Set();
/* Subject -> how often sending failed, or why ingest refused the last press. */
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
  const seen = new Set(busy);
  for (const own of records()) {
    const { subject, clicks: [click], token } = own, fresh = newest.get(memberOf(token)) ?? token;
    if (!click || seen.has(subject)) continue;
    seen.add(subject);
    if (!expired.has(fresh)) attempt(own, click, fresh);
  }
}

async function attempt(own, click, token) {
  const { subject, url } = own;
  let answer, verdict, reason, wait = 0;
  busy.add(subject);
  try {
    // The token in the body needs no preflight. The request outlives the page.
    const body = text({ ...click, sent_at: sentAt(click), token });
    answer = await fetch(url, { method: "POST", body, keepalive: true, credentials: token ? "omit" : "include" });
    wait = 1e3 * answer.headers.get("retry-after") || 0;
    verdict = await answer.json();
    if (/^urn:flattr/.test(verdict.type)) ({ reason } = verdict);
  } catch {}
  const isDone = verdict?.receipts || (reason && !/408|429|5../.test(answer.status) && !/_e[ax]/.test(reason));
  if (isDone) {
    settle(own, click, reason);
    troubles.set(subject, reason);
    answered.delete(subject);
    soon();
  } else {
    const failed = +troubles.get(subject) || 0;
    wait = Math.max(wait, 2 ** Math.min(failed, 6) * (200 + 1e3 * Math.random()));
    troubles.set(subject, failed + 1);
    if (!reason) console.error("flattr-button: no answer", answer);
    else if (token && /ex/.test(reason)) expired.add(token);
  }
  setTimeout(() => (busy.delete(subject), send()), Math.min(wait, 36e5));
  refresh();
  // Last: a page may have another CustomEvent.
  if (isDone) document.dispatchEvent(new CustomEvent(reason ? "flattr-refused" : "flattr-kept", { detail: { ...click, ...verdict } }));
}

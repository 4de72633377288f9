/* What all buttons of a page share: one request for their counters, and one for the member's own state. */
import { send } from "./queue.js";
import { about, drop, now, save } from "./records.js";
import { isNewer } from "./state.js";

const ADDRESS_MAX = 8000, THINGS_MAX = 100;
/* Each has show(), which asks for what it wants to know; key, pair (its part of an address) and count. */
export const buttons = new Set();
/* Subjects of which the server has spoken since somebody last looked at the page. */
export const answered = new Set();
let timer, pause, thingsMax, questions = [], open = {};

export function refresh() {
  questions = [];
  open = {};
  for (const button of buttons) button.show();
}

/* Ask soon, and for a while often: something has changed. */
export function soon(ms = 50) {
  if (ms === 50) pause = 350;
  clearTimeout(timer);
  timer = setTimeout(poll, ms);
}

async function poll() {
  if (document.hidden) return;
  refresh();
  send();
  thingsMax = THINGS_MAX;
  // Old Sugar's map() does not take an async function for one.
  const asked = questions.map((question) => ask(question));
  await Promise.all(asked);
  refresh();
  // The longer nothing has changed, the less often.
  pause = Math.min(2e4, pause * 1.03);
  if (asked[0]) soon(pause * (0.75 + Math.random() / 2));
}

/* Put a button's question into the next request to an address; `token` if it is the member's own. */
export function want(start, token, button) {
  let last = open[start + token];
  if (!last || last.list.length >= thingsMax || last.address.length + button.pair.length > ADDRESS_MAX) {
    questions.push((last = open[start + token] = { address: start, token, list: [] }));
  }
  last.address += button.pair;
  // By the time of the answer the button may be about something else.
  last.list.push([button, button.key, button.pair]);
}

async function ask({ address, token, list }) {
  const asked = now();
  try {
    // The browser sends the ETag of what it has.
    const answer = await fetch(address, { cache: "no-cache", headers: token ? { authorization: `Bearer ${token}` } : {} });
    if (answer.ok) {
      const { things, counters, flattred, subscribed, lag } = await answer.json();
      list.forEach(([button, key, pair], number) => {
        const id = things[number];
        if (token) return hear(key, flattred[id], subscribed[id], asked, 1e3 * lag.seconds);
        const count = [counters[id]].find(Number.isSafeInteger);
        if (button.pair !== pair || button.count === count) return;
        button.count = count;
        pause = 350;
      });
    } else if (token) for (const [, key] of list) answered.add(key);
    // One spoils it for all: next time they are asked for one by one.
    else if (answer.status === 422) list[1] ? (thingsMax = 1) : (list[0][0].wrong = list[0][2]);
  } catch {}
}

/* What a member has done is stored. What they only looked at is nobody's business. */
function hear(subject, given, monthly, asked, lag) {
  const all = about(subject), has = given || monthly;
  if (!all.every((own) => isNewer(own, asked, lag))) return;
  answered.add(subject);
  if (has) save(subject, { given, monthly, clicks: [] });
  for (const { key } of all) if (!has || key !== subject) drop(key);
}

// The live page: one stream of events with absolute values, so that missing one does no harm.
import { age, moment, money, number, setBar, setText, watch } from "./page.js";

const rates = [];
let pulseAt = 0;
let saidAt = 0;

function showState(kind, text) {
  const state = document.getElementById("state");
  state.className = `state ${kind}`;
  setText("state-text", text);
}

function showPulse(pulse) {
  pulseAt = performance.now();
  const { tallies, money: pot } = pulse;
  setText("accepted", number(tallies.accepted));
  setText("rate", pulse.clicks_per_s === null ? "–" : number(Math.round(pulse.clicks_per_s)));
  setText("pool", money(pot.pool_micro, pot.currency));
  setText("pledged", money(pot.pledged_micro, pot.currency));
  setText("fee", money(pot.fee_micro, pot.currency));
  setText("members", number(pot.members));
  setText("lag", age(pulse.lag.seconds));
  setText("as-of", moment(pulse.as_of));
  showSpark(pulse.clicks_per_s);
  showFates(tallies);
  showParts(pulse.parts);
  showPartitions(pulse.partitions);
  const behind = pulse.lag.seconds;
  if (behind === null || behind < 10) showState("good", "Live");
  else showState("slow", `Behind by ${age(behind)}`);
  beat();
  say(`${document.getElementById("flattrs").textContent} flattrs, ${Math.round(pulse.clicks_per_s ?? 0)} clicks per second`);
}

function beat() {
  const dot = document.querySelector("#state .dot");
  dot.classList.remove("beat");
  requestAnimationFrame(() => dot.classList.add("beat"));
}

// At most every half minute, so that screen readers do not talk without a pause.
function say(text) {
  const now = performance.now();
  if (saidAt && now - saidAt < 30000) return;
  saidAt = now;
  setText("said", text);
}

function showSpark(rate) {
  if (rate === null) return;
  rates.push(rate);
  if (rates.length > 60) rates.shift();
  const top = Math.max(1, ...rates);
  const points = rates.map((value, at) => `${60 - rates.length + at} ${(19 - (value / top) * 18).toFixed(1)}`);
  document.getElementById("spark").setAttribute("d", `M${points.join("L")}`);
}

function showFates(tallies) {
  const box = document.getElementById("clicks");
  let x = 0;
  for (const bar of box.querySelectorAll("rect")) {
    const amount = tallies[bar.dataset.term] ?? 0;
    const width = tallies.accepted ? (amount / tallies.accepted) * 1000 : 0;
    bar.setAttribute("x", x);
    bar.setAttribute("width", width);
    x += width;
  }
  for (const text of box.querySelectorAll("[data-of]")) text.textContent = number(tallies[text.dataset.of] ?? 0);
}

// Lists reuse their elements and write only what changed, so that nothing jumps and no focus is lost.
function fill(list, count, make) {
  while (list.children.length > count) list.lastElementChild.remove();
  while (list.children.length < count) list.append(make());
}

// Why a service is not ready is for operators: the page of others has no place for it, and does not ask.
const reasonList = document.getElementById("reasons");
let reasons = {};
let askedAt = 0;

async function askReasons() {
  const now = performance.now();
  if (!reasonList || (askedAt && now - askedAt < 5000)) return;
  askedAt = now;
  try {
    const answer = await fetch("/v1/services");
    if (!answer.ok) return;
    const { services } = await answer.json();
    reasons = Object.fromEntries(services.filter((one) => !one.ready).map((one) => [one.name, one.said]));
    showReasons();
  } catch {
    // Asked again later.
  }
}

function showReasons() {
  const list = reasonList;
  const names = Object.keys(reasons);
  list.hidden = names.length === 0;
  fill(list, names.length, () => document.createElement("li"));
  names.forEach((name, at) => {
    const text = `${name}: ${reasons[name]}`;
    if (list.children[at].textContent !== text) list.children[at].textContent = text;
  });
}

function showParts(parts) {
  if (parts.some((part) => !part.ready) || Object.keys(reasons).length) askReasons();
  const list = document.getElementById("parts");
  fill(list, parts.length, () => {
    const item = document.createElement("li");
    item.innerHTML = '<span class="dot"></span><span></span>';
    return item;
  });
  parts.forEach((part, at) => {
    list.children[at].className = `state ${part.ready ? "good" : "bad"}`;
    const text = `${part.name}: ${part.ready ? "ready" : "not ready"}`;
    if (list.children[at].lastElementChild.textContent !== text) list.children[at].lastElementChild.textContent = text;
  });
}

function showPartitions(partitions) {
  const list = document.getElementById("partitions");
  fill(list, partitions.length, () => {
    const item = document.createElement("li");
    item.append("", document.createElement("span"));
    return item;
  });
  partitions.forEach((part, at) => {
    const item = list.children[at];
    const slow = part.seconds === null || part.seconds > 10;
    item.className = part.seconds === null || part.seconds > 60 ? "bad" : slow ? "slow" : "";
    item.firstChild.textContent = `Partition ${part.partition}`;
    const records = part.records === null ? "" : `, ${number(part.records)} to count`;
    item.lastElementChild.textContent = `${age(part.seconds)}${records}`;
  });
}

const links = "links" in document.getElementById("tops").dataset;

function showList(id, lines, write) {
  document.getElementById(id).hidden = lines.length === 0;
  document.getElementById(`${id}-none`).hidden = lines.length > 0;
  document.querySelectorAll(`#${id} tbody tr`).forEach((row, at) => {
    const line = lines[at];
    row.hidden = !line;
    if (!line) return;
    write(row.children[1], line);
    const text = number(line.flattrs);
    if (row.children[3].textContent !== text) row.children[3].textContent = text;
    setBar(row.querySelector("rect"), (line.flattrs / lines[0].flattrs) * 1000);
  });
}

// A name is a link where the reader may follow it. Written anew only when it changed, so that no focus is lost.
function showName(cell, at, address, text) {
  const tag = links ? "A" : "BDI";
  let name = cell.children[at];
  if (name?.tagName !== tag) {
    name = document.createElement(tag);
    if (cell.children[at]) cell.children[at].replaceWith(name);
    else cell.append(name);
  }
  if (links && name.getAttribute("href") !== address) name.setAttribute("href", address);
  if (name.textContent === text) return;
  // Addresses may break behind slashes, as in the server's templates; names keep their own direction.
  const inner = links ? name.appendChild(document.createElement("bdi")) : name;
  inner.replaceChildren(...text.split("/").flatMap((piece, part) => (part ? ["/", document.createElement("wbr"), piece] : [piece])));
  if (links) name.replaceChildren(inner);
}

function showCreator(cell, line) {
  // As creator_path in warehouse/api/formatting.py: browsers resolve dots.
  const name = encodeURIComponent(line.creator_id);
  showName(cell, 0, /^\.\.?$/.test(name) ? `/creators?q=${name}` : `/creators/${name}`, line.creator_id);
}

function showThing(cell, line) {
  showName(cell, 0, `/things/${line.thing_id}`, thingText(line));
  const span = cell.querySelector("span") ?? cell.appendChild(document.createElement("span"));
  // A thing may be counted a moment before it is known whose it is.
  if (line.creator_id) showCreator(span, line);
  else span.replaceChildren();
}

// As in warehouse/api/formatting.py: invisible characters become code points, and long addresses are shortened.
function thingText(line) {
  const plain = line.thing.replace(/^https?:\/\//, "").replace(/[\p{C}\p{Zl}\p{Zp}]/gu,
    (char) => `\\u{${char.codePointAt(0).toString(16)}}`);
  const text = Array.from(plain || line.thing_id);
  return text.length <= 120 ? text.join("") : `${text.slice(0, 80).join("")}\u2026${text.slice(-39).join("")}`;
}

function showTop(top) {
  setText("flattrs", number(top.flattrs));
  setText("quarantined", number(top.quarantined));
  document.getElementById("held").hidden = !top.quarantined;
  showList("creators", top.creators, showCreator);
  showList("things", top.things, showThing);
}

watch("/v1/live", { pulse: showPulse, top: showTop }, () => showState("bad", "Disconnected, retrying"));

// While the warehouse is unavailable the stream stays open, but no pulse arrives.
setInterval(() => {
  if (pulseAt && performance.now() - pulseAt > 5000) {
    showState("bad", "No updates, waiting");
    askReasons();
  }
}, 1000);

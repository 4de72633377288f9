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
  setText("counted", number(tallies.counted));
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
  say(`${number(tallies.counted)} flattrs, ${Math.round(pulse.clicks_per_s ?? 0)} clicks per second`);
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

function showParts(parts) {
  const list = document.getElementById("parts");
  fill(list, parts.length, () => {
    const item = document.createElement("li");
    item.innerHTML = '<span class="dot"></span><span></span>';
    return item;
  });
  parts.forEach((part, at) => {
    list.children[at].className = `state ${part.ready ? "good" : "bad"}`;
    const text = `${part.name}: ${part.ready ? "ready" : "does not answer"}`;
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

function showList(id, lines, name, detail) {
  const rows = document.querySelectorAll(`#${id} tbody tr`);
  rows.forEach((row, at) => {
    const line = lines[at];
    const cell = row.children[1];
    if (!line) {
      cell.textContent = "";
      row.children[3].textContent = "";
      setBar(row.querySelector("rect"), 0);
      return;
    }
    let link = cell.querySelector("a");
    if (!link) {
      link = document.createElement("a");
      cell.append(link);
    }
    const address = `/creators/${encodeURIComponent(line.creator_id)}`;
    if (link.getAttribute("href") !== address) link.setAttribute("href", address);
    if (link.textContent !== name(line)) setName(link, name(line));
    if (detail) {
      const span = cell.querySelector("span") ?? cell.appendChild(document.createElement("span"));
      if (span.textContent !== detail(line)) span.textContent = detail(line);
    }
    const text = number(line.flattrs);
    if (row.children[3].textContent !== text) row.children[3].textContent = text;
    setBar(row.querySelector("rect"), (line.flattrs / lines[0].flattrs) * 1000);
  });
}

// Addresses may break after slashes, as in the server's templates.
function setName(link, text) {
  link.replaceChildren(...text.split("/").flatMap((piece, at) => (at ? ["/", document.createElement("wbr"), piece] : [piece])));
}

// As in warehouse/api/formatting.py: invisible characters become code points, and long addresses are shortened.
function thingText(line) {
  const plain = line.thing.replace(/^https?:\/\//, "").replace(/[\p{C}\p{Zl}\p{Zp}]/gu,
    (char) => `\\u{${char.codePointAt(0).toString(16)}}`);
  const text = Array.from(plain || line.thing_id);
  return text.length <= 120 ? text.join("") : `${text.slice(0, 80).join("")}\u2026${text.slice(-39).join("")}`;
}

function showTop(top) {
  showList("creators", top.creators, (line) => line.creator_id, null);
  showList("things", top.things, thingText, (line) => line.creator_id);
}

watch("/v1/live", { pulse: showPulse, top: showTop }, () => showState("bad", "Disconnected, retrying"));

// While the warehouse is unavailable the stream stays open, but no pulse arrives.
setInterval(() => {
  if (pulseAt && performance.now() - pulseAt > 5000) showState("bad", "No updates, waiting");
}, 1000);

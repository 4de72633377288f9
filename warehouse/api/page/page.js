// What all pages share: formatting of numbers, money and time, as in warehouse/api/formatting.py, and the event stream.
const plain = new Intl.NumberFormat("en-GB");
const signs = { EUR: "€", USD: "$", GBP: "£" };

export function number(value) {
  return plain.format(value);
}

// Rounded towards zero to hundredths, so that it never shows more than there is.
export function money(micro, currency) {
  const size = Math.floor(Math.abs(micro) / 10000) / 100;
  const text = size.toLocaleString("en-GB", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
  return (micro < 0 ? "−" : "") + (signs[currency] ?? `${currency} `) + text;
}

export function age(seconds) {
  if (seconds === null) return "not known";
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

export function moment(text) {
  if (text === null) return "not known yet";
  const at = new Date(text);
  const options = { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", timeZone: "UTC", hour12: false };
  return `${at.toLocaleString("en-GB", options)} UTC`;
}

export function setText(id, text) {
  const element = document.getElementById(id);
  if (!element || element.textContent === text) return;
  element.textContent = text;
  element.classList.toggle("long", text.length > 11);
}

export function setBar(bar, width) {
  bar.setAttribute("width", width);
}

// EventSource reconnects by itself with the last id, except after an answer that is not a stream (503, 401).
export function watch(address, handlers, lost) {
  const source = new EventSource(address);
  for (const [name, handle] of Object.entries(handlers)) {
    source.addEventListener(name, (event) => handle(JSON.parse(event.data)));
  }
  source.addEventListener("error", () => {
    lost();
    if (source.readyState === EventSource.CLOSED) setTimeout(() => watch(address, handlers, lost), 5000);
  });
}

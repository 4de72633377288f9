/* What a site's own page would know: who the reader is, and where to read counters. */
"use strict";
for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
  for (const button of document.querySelectorAll("flattr-button")) button.setAttribute(name, value);
}
for (const type of ["flattr-kept", "flattr-refused"]) {
  document.addEventListener(type, ({ detail }) => {
    document.querySelector("#said").textContent =
      `${detail.action} ${detail.click_id}: ${type === "flattr-kept" ? "kept" : detail.reason}`;
  });
}

/* The platform's side of data-join, as docs/platform.md describes it: hand a member's token to the site that asked. */
"use strict";
/* The origins that this platform's readers may sign in to. Only to these a token is ever handed. */
const SITES = [location.origin];
const asker = new URLSearchParams(location.search).get("origin");
const form = document.querySelector("form");
if (!opener || !SITES.includes(asker)) {
  form.remove();
  document.querySelector("#who").textContent = `The page that opened this one is not a site of ours: ${asker}`;
}
form.addEventListener("submit", (event) => {
  event.preventDefault();
  // The second argument has the browser deliver it to that origin, or to nobody.
  opener.postMessage({ flattrToken: document.querySelector("#token").value.trim() }, asker);
  close();
});

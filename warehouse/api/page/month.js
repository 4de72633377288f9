// Refreshes a status: a month's every two seconds until it is closed, others every data-every-ms.
const box = document.getElementById("status");
let last = box.innerHTML;

async function refresh() {
  try {
    const answer = await fetch(`${location.pathname}?part=status`, { headers: { Accept: "text/html" } });
    if (!answer.ok || answer.redirected) return;
    const text = await answer.text();
    if (text !== last) {
      last = text;
      box.innerHTML = text;
    }
    box.dataset.state = answer.headers.get("X-State");
    if (box.dataset.state === "closed") clearInterval(timer);
  } catch {
    // The next request may succeed.
  }
}

const timer = setInterval(refresh, Number(box.dataset.everyMs ?? 2000));

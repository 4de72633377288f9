/* One member's state of one thing, and the number beside it: pure.
 *
 * {given, monthly, base, at, clicks}: `clicks` wait for ingest, and `given` has them. `base` is the number that stood on
 * the button before the last press, -1 if none did; `at` is when ingest took that press. Times are ms by the device's
 * clock, which may be wrong, and may be set at any time. */

/* A press, while the button shows a number. */
export function press(own, click, count = -1) {
  if (/sub/.test(click.action)) own.monthly = click.action === "subscribe";
  else {
    own.given = click.action === "flattr";
    own.base = count;
  }
  own.clicks.push(click);
}

/* Whether what the server knew `lag` ms before it was asked is newer than the last press. The margin is for counters
 * that a network caches: by then they have the press, too. */
export const isNewer = ({ clicks, at }, asked, lag) => !(clicks[0] || Math.abs(asked - at) < lag + 6e3);

/* The number to show for the server's. Until that has the press, the number of the press moves by one. */
export function number({ given, base }, count) {
  if (!(base >= 0)) return count;
  return given ? Math.max(count, base + 1) : Math.min(count, Math.max(base - 1, 0));
}

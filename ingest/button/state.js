/* One member's state of one thing, and the number beside it: pure.
 *
 * {given, monthly, base, at, clicks}: `clicks` wait for ingest, and `given` has them. `base` is the number that stood on
 * the button before the last press, absent if the server's word is newer; where none stood, 0 before a flattr (it is one
 * at least) and -1 before an undo; `at` is when ingest took that press. Times are ms by the device's
 * clock, which may be wrong, and may be set at any time. */

/* The state after a press of the button, or of its switch, that was on or not, while the button shows a number. */
export const press = ({ given, monthly, base }, isSwitch, isOn, count) =>
  isSwitch ? { given, monthly: !isOn, base } : { given: !isOn, monthly, base: count ?? -isOn };

/* Whether what the server knew `lag` ms before it was asked is newer than the last press. The margin is for counters
 * that a network caches: by then they have the press, too. */
export const isNewer = ({ clicks, at }, asked, lag) => !(clicks[0] || Math.abs(asked - at) < lag + 6e3);

/* The number to show for the server's. Until that has the press, the number of the press moves by one. */
export function number({ given, base }, count) {
  if (!(base >= 0)) return count;
  return given ? Math.max(count, base + 1) : Math.min(count, base - 1);
}

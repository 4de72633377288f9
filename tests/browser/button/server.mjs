/* What stands behind the button, by its contract: it takes each click once, orders a member's presses of a thing by
 * their true times, and shows what it had some time ago. Independent of both the button's code and the services'. */
const MINUTE_MS = 6e4;
const monthOf = (ms) => new Date(ms).toISOString().slice(0, 7);
const answer = (status, body, headers = {}) => new Response(JSON.stringify(body), { status, headers });
const refusal = (status, reason, headers) => answer(status, { type: `urn:flattr:reason:${reason}`, status, reason }, headers);

export class Server {
  clicks = new Map();
  lagMs = 700;
  /* Of requests: how many get lost on their way, or on their way back; and are answered 503. */
  trouble = { lost: 0, unanswered: 0, busy: 0 };
  creators = new Set(["owner"]);

  constructor() {
    this.requests = [];
  }

  attach(world) {
    this.world = world;
  }

  /* Tokens are those of the wire without a signature: {sub, exp in s}. */
  static token = (member, expires) => `e30.${btoa(JSON.stringify({ sub: member, exp: Math.round(expires / 1000) }))}.x`;

  #member(token) {
    if (!token) return { refused: refusal(401, "token_missing") };
    const { sub, exp } = JSON.parse(atob(token.split(".")[1]));
    return exp * 1000 <= this.world.now ? { refused: refusal(401, "token_expired") } : { member: sub };
  }

  async answer(request, tab) {
    const chance = this.world.random();
    await new Promise((resolve) => this.world.at(20 + 200 * this.world.random(), resolve));
    if (!tab.device.isOnline || chance < this.trouble.lost) throw new TypeError("Failed to fetch");
    if (chance < this.trouble.lost + this.trouble.busy) return refusal(503, "queue_full", { "retry-after": "2" });
    this.requests.push(request.url);
    const answered = request.method === "POST" ? this.#take(JSON.parse(request.body)) : this.#read(new URL(request.url), request.headers);
    if (chance > 1 - this.trouble.unanswered) throw new TypeError("Failed to fetch");
    return answered;
  }

  #take({ token, click_id, action, creator_id, thing, clicked_at, sent_at }) {
    const { member, refused } = this.#member(token);
    if (refused) return refused;
    if (member === creator_id) return refusal(422, "own_thing");
    const skew = this.world.now - sent_at, at = Math.min(this.world.now, clicked_at + (Math.abs(skew) < MINUTE_MS ? 0 : skew));
    if (!this.clicks.has(click_id)) this.clicks.set(click_id, { member, action, name: `${creator_id} ${thing}`, at, taken: this.world.now });
    return answer(202, { receipts: [{ item: 0, click_id }], refused: [] });
  }

  /* What a member has flattred this month, of the clicks taken until then. */
  isGiven(member, name, until = this.world.now) {
    const month = monthOf(this.world.now);
    const theirs = [...this.clicks.values()].filter((click) => click.member === member && click.name === name && click.taken <= until && monthOf(click.at) === month);
    return theirs.toSorted((a, b) => a.at - b.at).at(-1)?.action === "flattr";
  }

  count(name, until = this.world.now) {
    const members = new Set([...this.clicks.values()].map(({ member }) => member));
    return [...members].filter((member) => this.isGiven(member, name, until)).length;
  }

  #read({ pathname, searchParams }, headers) {
    const creators = searchParams.getAll("creator"), until = this.world.now - this.lagMs;
    const things = searchParams.getAll("thing").map((thing, number) => `${creators[number]} ${thing}`);
    const about = (of) => Object.fromEntries(things.map((name) => [name, of(name)]));
    const common = { month: monthOf(this.world.now), things, lag: { records: 0, seconds: this.lagMs / 1000 } };
    if (pathname === "/v1/counters") return answer(200, { ...common, counters: about((name) => this.count(name, until)) });
    const { member, refused } = this.#member(headers.authorization?.slice(7));
    if (refused) return refused;
    return answer(200, { ...common, member_id: member, flattred: about((name) => this.isGiven(member, name, until)), subscribed: about(() => false) });
  }
}

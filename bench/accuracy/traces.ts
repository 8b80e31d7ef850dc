import { Chance } from "../../tools/chance";

export interface Limit {
  /** `caller` counts by the user, `ip` by the address. */
  readonly layer: "caller" | "ip";
  readonly max: number;
  readonly windowMs: number;
}

/** Windows short enough for a run of minutes: 1 s and 10 s in each layer, since some peers can hold only one of them. */
export const LIMITS: readonly Limit[] = [
  { layer: "caller", max: 5, windowMs: 1_000 },
  { layer: "caller", max: 20, windowMs: 10_000 },
  { layer: "ip", max: 12, windowMs: 1_000 },
  { layer: "ip", max: 40, windowMs: 10_000 },
];

/** The limit while peers are killed. No window ends before they are back, and every peer can hold this one. */
export const CRASH_LIMITS: readonly Limit[] = [{ layer: "caller", max: 20, windowMs: 60_000 }];

export interface TraceRequest {
  /** From the start of the trace, which is a multiple of the longest window in Unix time: windows aligned to clocks start there. */
  readonly atMs: number;
  /** The container of the backend that gets the request. */
  readonly container: number;
  readonly user: string;
  readonly ip: string;
  /** The same under every limit, or by layer. A layer at 0 decides nothing. */
  readonly cost: number | Readonly<Record<Limit["layer"], number>>;
  /** Names the message. Its retries have the same key. */
  readonly key: string;
  readonly isRetry: boolean;
}

export const TRACE_NAMES = ["steady", "bursts", "spread", "costs", "layers", "retries", "nat", "tokens"] as const;
export type TraceName = (typeof TRACE_NAMES)[number];

export interface Trace {
  readonly name: TraceName | "crash";
  readonly description: string;
  readonly limits: readonly Limit[];
  readonly requests: readonly TraceRequest[];
}

export const CONTAINERS = 10;
/** Every trace ends by then. The next one starts two of the longest windows after the start of this one. */
export const TRACE_MS = 19_500;

type Message = Omit<TraceRequest, "key" | "isRetry" | "container"> & { readonly container?: number };

/** Collects what a trace sends, in any order. */
class Script {
  readonly requests: TraceRequest[] = [];

  constructor(
    readonly chance: Chance,
    private readonly name: string,
    private readonly network: number,
  ) {}

  user = (i: number | string): string => `${this.name}-u${i}`;
  ip = (i: number): string => `10.0.${this.network}.${i}`;
  jitterMs = (mostMs: number): number => Math.floor(this.chance.next() * mostMs);

  /** Without a container in the message all requests of a user go to one container. */
  send(message: Message, retriesAtMs: readonly number[] = []): void {
    const container = message.container ?? containerOf(message.user);
    const request = { ...message, container, key: `${this.name}-${this.requests.length}`, isRetry: false };
    this.requests.push(request, ...retriesAtMs.map((atMs) => ({ ...request, atMs, isRetry: true })));
  }

  /** Sends several messages, about one every `everyMs`. */
  sendMany(count: number, everyMs: number, message: Message): void {
    for (let i = 0; i < count; i++)
      this.send({ ...message, atMs: message.atMs + i * everyMs + this.jitterMs(everyMs / 4) });
  }
}

/** The key that a request counts by under a limit. */
export function keyOf({ layer }: Limit, { user, ip }: TraceRequest): string {
  return layer === "caller" ? user : ip;
}

/** What a request weighs under a limit. */
export function costUnder({ layer }: Limit, { cost }: TraceRequest): number {
  return typeof cost === "number" ? cost : cost[layer];
}

/** The limits that decide a request: those under which it weighs something. */
export function decidingLimits(limits: readonly Limit[], request: TraceRequest): Limit[] {
  return limits.filter((limit) => costUnder(limit, request) > 0);
}

function containerOf(user: string): number {
  return [...user].reduce((sum, letter) => sum * 31 + letter.charCodeAt(0), 7) % CONTAINERS;
}

const WRITERS: Readonly<Record<TraceName, { description: string; write(script: Script): void }>> = {
  steady: {
    description: "twelve users, each somewhat faster than its limits allow, each on an address of its own",
    write(script) {
      for (let user = 0; user < 12; user++)
        for (let atMs = script.jitterMs(600); atMs < TRACE_MS; atMs += 100 + script.jitterMs(600))
          script.send({ atMs, user: script.user(user), ip: script.ip(user), cost: 1 });
    },
  },
  bursts: {
    description: "one request that opens the windows, then as much as they hold just before they end and just after",
    write(script) {
      for (let user = 0; user < 5; user++) {
        const who = { user: script.user(user), ip: script.ip(user), cost: 1 };
        for (const secondMs of [0, 4_000, 12_000, 16_000]) {
          script.send({ ...who, atMs: secondMs + 20 });
          script.sendMany(4, 20, { ...who, atMs: secondMs + 880 });
          script.sendMany(5, 20, { ...who, atMs: secondMs + 1_080 });
        }
      }
      for (let user = 5; user < 10; user++) {
        const who = { user: script.user(user), ip: script.ip(user), cost: 1 };
        script.send({ ...who, atMs: 20 });
        script.sendMany(19, 230, { ...who, atMs: 5_400 });
        script.sendMany(20, 230, { ...who, atMs: 10_100 });
      }
    },
  },
  spread: {
    description: "three users whose requests go to the ten containers in turn",
    write(script) {
      for (let user = 0; user < 3; user++) {
        let turn = script.chance.below(CONTAINERS);
        for (let atMs = script.jitterMs(200); atMs < TRACE_MS; atMs += 40 + script.jitterMs(120))
          script.send({ atMs, user: script.user(user), ip: script.ip(user), cost: 1, container: turn++ % CONTAINERS });
      }
    },
  },
  costs: {
    description: "costs from 1 to 5",
    write(script) {
      for (let user = 0; user < 10; user++)
        for (let atMs = script.jitterMs(400); atMs < TRACE_MS; atMs += 150 + script.jitterMs(700))
          script.send({ atMs, user: script.user(user), ip: script.ip(user), cost: 1 + script.chance.below(5) });
    },
  },
  layers: {
    description: "an address that is full while its users are not, and a user who is full while its address is not",
    write(script) {
      for (let group = 0; group < 4; group++) {
        const startMs = group < 2 ? 50 : 10_050;
        fullAddress(script, group, startMs);
        fullUser(script, group, startMs);
        withinASecond(script, group, 4_000 * group + 3_050);
      }
    },
  },
  retries: {
    description: "twenty messages that fit, whose answers are lost: each is sent up to three times again",
    write(script) {
      for (let user = 0; user < 6; user++)
        for (let message = 0; message < 20; message++) {
          const atMs = (user < 3 ? 0 : 9_800) + 20 + message * 475 + script.jitterMs(25);
          const retries = Array.from({ length: script.chance.below(4) }, (_, i) => atMs + (i + 1) * 130);
          script.send({ atMs, user: script.user(user), ip: script.ip(user), cost: 1 }, retries);
        }
    },
  },
  nat: {
    description: "fifteen users on each of two addresses",
    write(script) {
      for (let user = 0; user < 30; user++)
        for (let atMs = script.jitterMs(1_000); atMs < TRACE_MS; atMs += 500 + script.jitterMs(1_000))
          script.send({ atMs, user: script.user(user), ip: script.ip(user % 2), cost: 1 });
    },
  },
  tokens: {
    description:
      "nine users, each on an address of its own, with a cost for the user and another for the address, from 0 on",
    write(script) {
      for (let user = 0; user < 9; user++)
        for (let atMs = script.jitterMs(400); atMs < TRACE_MS; atMs += 150 + script.jitterMs(400)) {
          const cost = { caller: script.chance.below(4), ip: script.chance.below(6) };
          script.send({ atMs, user: script.user(user), ip: script.ip(user), cost });
        }
    },
  },
};

/** Four users fill an address. It denies three others, who still have all of their own limits at another address. */
function fullAddress(script: Script, group: number, startMs: number): void {
  const full = script.ip(10 * group);
  for (let user = 0; user < 4; user++)
    script.sendMany(10, 400, { atMs: startMs + user * 100, user: script.user(`${group}f${user}`), ip: full, cost: 1 });
  for (let user = 0; user < 3; user++) {
    const denied = { user: script.user(`${group}d${user}`), cost: 1 };
    script.sendMany(18, 220, { ...denied, atMs: startMs + 4_400 + user * 50, ip: full });
    script.sendMany(5, 60, { ...denied, atMs: startMs + 8_550 + user * 50, ip: script.ip(10 * group + 1 + user) });
  }
}

/** A user who is full goes on. The rest of the address's limit is left for others. */
function fullUser(script: Script, group: number, startMs: number): void {
  const ip = script.ip(10 * group + 5);
  script.sendMany(42, 210, { atMs: startMs, user: script.user(`${group}full`), ip, cost: 1 });
  for (let user = 0; user < 3; user++)
    script.sendMany(3, 90, { atMs: startMs + 9_000 + user * 30, user: script.user(`${group}o${user}`), ip, cost: 1 });
}

/** Both of these again, for the limits of one second. */
function withinASecond(script: Script, group: number, startMs: number): void {
  const [full, elsewhere, shared] = [6, 7, 8].map((i) => script.ip(10 * group + i)) as [string, string, string];
  for (let user = 0; user < 4; user++)
    script.sendMany(3, 60, { atMs: startMs + user * 10, user: script.user(`${group}s${user}`), ip: full, cost: 1 });
  const denied = { user: script.user(`${group}sd`), cost: 1 };
  script.sendMany(4, 40, { ...denied, atMs: startMs + 260, ip: full });
  script.sendMany(5, 40, { ...denied, atMs: startMs + 460, ip: elsewhere });
  script.sendMany(9, 40, { atMs: startMs, user: script.user(`${group}sfull`), ip: shared, cost: 1 });
  for (let user = 0; user < 7; user++)
    script.send({ atMs: startMs + 420 + user * 40, user: script.user(`${group}so${user}`), ip: shared, cost: 1 });
}

/** The same seed makes the same traces. */
export function makeTraces(seed: number, names: readonly TraceName[] = TRACE_NAMES): Trace[] {
  return names.map((name) => {
    const index = TRACE_NAMES.indexOf(name);
    const script = new Script(new Chance(seed + index), name, index);
    const { description, write } = WRITERS[name];
    write(script);
    return { name, description, limits: LIMITS, requests: inOrder(script.requests) };
  });
}

/** Five users fill their limit and go on. The peers are killed before it is full. */
export function makeCrashTrace(seed: number): Trace {
  const script = new Script(new Chance(seed - 1), "crash", TRACE_NAMES.length);
  for (let user = 0; user < 5; user++)
    script.sendMany(70, 200, { atMs: user * 40, user: script.user(user), ip: script.ip(user), cost: 1, container: 0 });
  const description = "five users fill their limit and go on";
  return { name: "crash", description, limits: CRASH_LIMITS, requests: inOrder(script.requests) };
}

function inOrder(requests: readonly TraceRequest[]): TraceRequest[] {
  return [...requests].sort((a, b) => a.atMs - b.atMs);
}

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { judge, type Observed, type ReportedWait, type Verdict } from "../../bench/accuracy/judge";
import {
  CRASH_LIMITS,
  costUnder,
  LIMITS,
  type Limit,
  makeTraces,
  TRACE_NAMES,
  type TraceRequest,
} from "../../bench/accuracy/traces";
import { consume } from "../../src/core/decide";
import { EventLog } from "../../src/core/sliding-window";
import { Chance } from "../../tools/chance";

const RIGHT = { admittedTooMany: 0, deniedTooMany: 0, chargedAlthoughDenied: 0, chargedTwice: 0, worstWaitMs: 0 };
const TWO_A_SECOND: readonly Limit[] = [{ layer: "caller", max: 2, windowMs: 1_000 }];
const AND_THREE_AN_ADDRESS: readonly Limit[] = [...TWO_A_SECOND, { layer: "ip", max: 3, windowMs: 1_000 }];

let sequence = 0;

/** A request that is decided at once, unless `rest` says otherwise. */
function observe(
  atMs: number,
  outcome: Observed["outcome"],
  rest: Partial<TraceRequest> & Partial<Observed> = {},
): Observed {
  const { user = "u", ip = "10.0.0.1", cost = 1, key = `k${sequence++}`, isRetry = false, ...observed } = rest;
  const request = { atMs, container: 0, user, ip, cost, key, isRetry };
  return { request, sentMs: atMs, receivedMs: atMs, outcome, ...observed };
}

/** The answers of an exact limiter over a network with random delays in both directions. */
function answeredExactly(
  requests: readonly TraceRequest[],
  limits: readonly Limit[],
  seed: number,
  mostDelayMs: number,
): Observed[] {
  const chance = new Chance(seed);
  const logs = new Map<string, EventLog>();
  const logOf = (name: string) => logs.get(name) ?? logs.set(name, new EventLog()).get(name) ?? new EventLog();
  const admitted = new Set<string>();
  const arrivals = requests.map((request) => ({ request, decidedMs: request.atMs + chance.below(mostDelayMs + 1) }));
  arrivals.sort((a, b) => a.decidedMs - b.decidedMs);
  return arrivals.map(({ request, decidedMs }) => {
    const receivedMs = decidedMs + chance.below(mostDelayMs + 1);
    const layers = ["caller", "ip"].flatMap((layer) => {
      const own = limits.filter((limit) => limit.layer === layer);
      return own.length > 0
        ? [
            {
              log: logOf(layer === "caller" ? request.user : request.ip),
              limits: own,
              cost: costUnder(own[0] as Limit, request),
            },
          ]
        : [];
    });
    const decision = admitted.has(request.key) || consume(layers, decidedMs);
    if (decision === true || decision.allowed) {
      admitted.add(request.key);
      return { request, sentMs: request.atMs, receivedMs, outcome: "allowed" };
    }
    const waitMs = Math.max(...decision.standings.flat().map(({ fitsInMs }) => fitsInMs));
    const reportedWait: ReportedWait = chance.is(0.5)
      ? { from: "decision", ms: Math.ceil(waitMs / 1_000) * 1_000, roundedUpToMs: 1_000 }
      : { from: "epoch", ms: decidedMs + waitMs, roundedUpToMs: 1 };
    return { request, sentMs: request.atMs, receivedMs, outcome: "denied", reportedWait };
  });
}

const flip = (each: Observed): Observed => ({
  ...each,
  outcome: each.outcome === "allowed" ? "denied" : "allowed",
  reportedWait: undefined,
});

describe("an exact limiter", () => {
  test.each(TRACE_NAMES)("is judged exact in the trace %s, however slow the network is", (name) => {
    for (const [seed, mostDelayMs] of [0, 1, 30, 400].entries()) {
      const [trace] = makeTraces(seed, [name]);
      const observed = answeredExactly(trace?.requests ?? [], LIMITS, seed, mostDelayMs);
      expect(judge(observed, LIMITS)).toMatchObject(RIGHT);
      expect(observed.some(({ outcome }) => outcome === "denied")).toBe(name !== "retries");
    }
  });

  test("is judged exact in random traffic, also when every third answer is lost", () => {
    const request = fc.record({
      user: fc.nat(2),
      ip: fc.nat(1),
      cost: fc.oneof(
        fc.integer({ min: 1, max: 4 }),
        fc.record({ caller: fc.integer({ min: 0, max: 4 }), ip: fc.integer({ min: 0, max: 4 }) }),
      ),
      afterMs: fc.nat(400),
    });
    fc.assert(
      fc.property(fc.array(request, { maxLength: 40 }), fc.nat(), fc.nat(300), (steps, seed, mostDelayMs) => {
        let atMs = 0;
        const requests = steps.map(({ user, ip, cost, afterMs }, i) => {
          atMs += afterMs;
          return { atMs, container: 0, user: `u${user}`, ip: `i${ip}`, cost, key: `${i}`, isRetry: false };
        });
        const observed = answeredExactly(requests, LIMITS, seed, mostDelayMs);
        expect(judge(observed, LIMITS)).toMatchObject(RIGHT);
        const lost = observed.map(
          (each, i): Observed =>
            i % 3 === 0
              ? { ...each, outcome: "unknown", receivedMs: Number.POSITIVE_INFINITY, reportedWait: undefined }
              : each,
        );
        expect(judge(lost, LIMITS)).toMatchObject(RIGHT);
      }),
    );
  });

  test("may admit at exactly the instant at which an event leaves the window", () => {
    expect(
      judge(
        [0, 0, 1_000].map((atMs) => observe(atMs, "allowed")),
        TWO_A_SECOND,
      ),
    ).toMatchObject(RIGHT);
  });
});

describe("a mistake", () => {
  const cases: readonly [string, readonly Observed[], Partial<Verdict>][] = [
    [
      "an admission one millisecond too early",
      [0, 0, 999].map((atMs) => observe(atMs, "allowed")),
      { admittedTooMany: 1 },
    ],
    [
      "one admission too many among concurrent requests",
      [0, 1, 2].map((atMs) => observe(atMs, "allowed", { receivedMs: 500 })),
      { admittedTooMany: 1 },
    ],
    [
      "an admitted cost above the rest of the limit",
      [observe(0, "allowed"), observe(1, "allowed", { cost: 2 })],
      { admittedTooMany: 1 },
    ],
    ["a denial of a cost that fits", [observe(0, "allowed"), observe(1, "denied")], { deniedTooMany: 1 }],
    [
      "a denial at exactly the instant at which an event leaves the window",
      [observe(0, "allowed"), observe(0, "allowed"), observe(1_000, "denied")],
      { deniedTooMany: 1 },
    ],
    [
      "a denial of a message that was admitted before",
      [observe(0, "allowed", { key: "m" }), observe(1, "allowed"), observe(2, "denied", { key: "m", isRetry: true })],
      { chargedTwice: 1 },
    ],
    [
      "a denial of another message because a retry was charged",
      [observe(0, "allowed", { key: "m" }), observe(1, "allowed", { key: "m", isRetry: true }), observe(2, "denied")],
      { chargedTwice: 1 },
    ],
    [
      "a denial of a retry while over-admissions use the whole limit",
      [
        observe(0, "allowed", { key: "n" }),
        ...[1, 2].map((atMs) => observe(atMs, "allowed")),
        observe(3, "denied", { key: "n", isRetry: true }),
      ],
      { admittedTooMany: 1, chargedTwice: 1 },
    ],
    [
      "two denials because a retry was charged, of which the first could explain the second",
      [
        ...[0, 1].map((atMs) => observe(atMs, "allowed", { key: "o", isRetry: atMs > 0 })),
        ...[2, 3].map((atMs) => observe(atMs, "denied")),
      ],
      { chargedTwice: 2 },
    ],
    [
      "a retry that keeps its message in the window for longer",
      [
        ...[0, 900].map((atMs) => observe(atMs, "allowed", { key: "p", cost: 2, isRetry: atMs > 0 })),
        observe(1_000, "denied"),
      ],
      { chargedTwice: 1 },
    ],
    [
      "a wait one millisecond too short",
      [
        observe(0, "allowed", { cost: 2 }),
        observe(300, "denied", { reportedWait: { from: "decision", ms: 699, roundedUpToMs: 1 } }),
      ],
      { worstWaitMs: -1 },
    ],
    [
      "a wait one millisecond too long",
      [
        observe(0, "allowed", { cost: 2 }),
        observe(300, "denied", { reportedWait: { from: "epoch", ms: 1_002, roundedUpToMs: 1 } }),
      ],
      { worstWaitMs: 1 },
    ],
    [
      "a wait one second too long, rounded up to seconds",
      [
        observe(0, "allowed", { cost: 2 }),
        observe(300, "denied", { reportedWait: { from: "decision", ms: 2_000, roundedUpToMs: 1_000 } }),
      ],
      { worstWaitMs: 300 },
    ],
  ];

  test.each(cases)("is found: %s", (_, observed, wrong) => {
    expect(judge(observed, TWO_A_SECOND)).toMatchObject({ ...RIGHT, ...wrong });
  });

  test("is found: a user is charged although the address denies", () => {
    const observed = [
      ...["a", "b", "c"].map((user) => observe(0, "allowed", { user })),
      ...[1, 2].map((atMs) => observe(atMs, "denied")),
      observe(3, "denied", { ip: "10.0.0.2" }),
    ];
    expect(judge(observed, AND_THREE_AN_ADDRESS)).toMatchObject({ ...RIGHT, chargedAlthoughDenied: 1 });
  });

  test("is not a charge if the peer's estimate from the previous window explains the denial", () => {
    const observed = [
      ...[0, 900, 901].map((atMs) => observe(atMs, atMs ? "denied" : "allowed", { cost: atMs ? 1 : 2 })),
      observe(1_500, "denied"),
    ];
    expect(judge(observed, TWO_A_SECOND, 1)).toMatchObject({ ...RIGHT, chargedAlthoughDenied: 1 });
    expect(judge(observed, TWO_A_SECOND, 2)).toMatchObject({ ...RIGHT, deniedTooMany: 1 });
  });

  test("is found: the cost of one layer is charged to another", () => {
    const cost = { caller: 0, ip: 2 };
    const observed = [
      ...[0, 1].map((atMs) => observe(atMs, "allowed", { cost: { caller: 1, ip: 0 } })),
      observe(2, "denied", { cost }),
      observe(3, "allowed", { cost }),
      observe(4, "allowed", { cost }),
    ];
    expect(judge(observed, AND_THREE_AN_ADDRESS)).toMatchObject({ ...RIGHT, deniedTooMany: 1, admittedTooMany: 1 });
  });

  test("is found wherever in a trace one answer is flipped", () => {
    const [trace] = makeTraces(1, ["spread"]);
    const observed = answeredExactly(trace?.requests ?? [], LIMITS, 1, 0);
    for (let i = 0; i < observed.length; i += 29) {
      const { admittedTooMany, deniedTooMany, chargedAlthoughDenied } = judge(
        observed.with(i, flip(observed[i] as Observed)),
        LIMITS,
      );
      expect(admittedTooMany + deniedTooMany + chargedAlthoughDenied).toBeGreaterThan(0);
    }
  });
});

describe("a delay of the network", () => {
  test("excuses an admission that may have happened after the event left the window", () => {
    const early = [observe(0, "allowed"), observe(0, "allowed")];
    expect(judge([...early, observe(990, "allowed", { receivedMs: 1_000 })], TWO_A_SECOND)).toMatchObject(RIGHT);
    expect(judge([...early, observe(990, "allowed", { receivedMs: 999 })], TWO_A_SECOND)).toMatchObject({
      admittedTooMany: 1,
    });
  });

  test("excuses a denial if a concurrent request may have come first", () => {
    const other = (sentMs: number) => observe(sentMs, "allowed", { receivedMs: 60, cost: 2 });
    expect(judge([other(50), observe(40, "denied", { receivedMs: 50 })], TWO_A_SECOND)).toMatchObject(RIGHT);
    expect(judge([other(51), observe(40, "denied", { receivedMs: 50 })], TWO_A_SECOND)).toMatchObject({
      deniedTooMany: 1,
    });
  });
});

describe("an unknown outcome", () => {
  test("excuses both: a request without an answer may have been charged, or not", () => {
    const unknown = observe(0, "unknown", { receivedMs: 1 });
    expect(judge([unknown, observe(2, "allowed"), observe(3, "allowed")], TWO_A_SECOND)).toMatchObject(RIGHT);
    expect(judge([unknown, observe(2, "allowed"), observe(3, "denied")], TWO_A_SECOND)).toMatchObject(RIGHT);
  });

  test("excuses a denied retry: of two concurrent attempts the later may have come first", () => {
    const others = [0, 0].map((atMs) => observe(atMs, "allowed"));
    const first = observe(990, "allowed", { key: "q", receivedMs: 1_010 });
    const retry = (sentMs: number) => observe(sentMs, "denied", { key: "q", isRetry: true, receivedMs: sentMs + 4 });
    expect(judge([...others, first, retry(991)], TWO_A_SECOND)).toMatchObject(RIGHT);
    expect(judge([...others, first, retry(1_010)], TWO_A_SECOND)).toMatchObject({ chargedTwice: 1 });
  });
});

test("a peer that forgets its counters over-admits", () => {
  const users = Array.from({ length: 25 }, (_, i) => observe(i, "allowed"));
  expect(judge(users, CRASH_LIMITS)).toMatchObject({ ...RIGHT, admitted: 25, admittedTooMany: 5 });
});

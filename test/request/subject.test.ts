import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readConfig } from "../../src/config/config";
import { fnv1a } from "../../src/core/fnv";
import { inShadow, isSameSubject } from "../../src/core/identity";
import { Policy } from "../../src/core/policy";
import { objectOf } from "../../src/objects/placement";
import { normalAddress } from "../../src/request/address";
import { digestOf } from "../../src/request/digest";
import { type Idempotency, readCheck, readConsume } from "../../src/request/read";
import { layerKeysOf, normalKey } from "../../src/request/subject";

function keysOf(policy: Policy, subject: Readonly<Record<string, string>>) {
  const { keys, errors } = layerKeysOf(policy, subject, 64);
  return { keys: keys.map((key) => key?.text), errors };
}

describe("addresses", () => {
  /** The platform's own parser of IPv6 addresses. It shares no code with the library under test. */
  const canonical = (text: string) => new URL(`http://[${text}]/`).hostname.slice(1, -1);
  const groups = fc.array(fc.oneof(fc.constant(0), fc.nat({ max: 0xffff })), { minLength: 8, maxLength: 8 });
  const hex = (group: number) => group.toString(16);

  test("every spelling of an IPv6 address is one key", () => {
    fc.assert(
      fc.property(groups, fc.nat({ max: 7 }), fc.nat({ max: 8 }), (groups, from, length) => {
        const isMapped = groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff;
        fc.pre(!isMapped);
        const to = Math.min(8, from + length);
        const zeroed = groups.map((group, i) => (i >= from && i < to ? 0 : group));
        fc.pre(!(zeroed.slice(0, 5).every((group) => group === 0) && zeroed[5] === 0xffff));
        const spellings = [
          zeroed.map(hex).join(":"),
          zeroed.map((group) => hex(group).toUpperCase().padStart(4, "0")).join(":"),
          canonical(zeroed.map(hex).join(":")),
          `${zeroed.slice(0, 6).map(hex).join(":")}:${zeroed
            .slice(6)
            .flatMap((group) => [group >> 8, group & 255])
            .join(".")}`,
        ];
        if (to > from)
          spellings.push(`${zeroed.slice(0, from).map(hex).join(":")}::${zeroed.slice(to).map(hex).join(":")}`);
        const prefix = `${canonical([...zeroed.slice(0, 4), 0, 0, 0, 0].map(hex).join(":"))}/64`;
        for (const spelling of spellings) {
          expect([spelling, normalAddress(spelling, 64)]).toEqual([spelling, prefix]);
          expect(normalAddress(spelling, 128)).toBe(`${canonical(zeroed.map(hex).join(":"))}/128`);
        }
      }),
      { numRuns: 2_000 },
    );
  });

  test("an IPv4 address is one key, also mapped into IPv6 or translated by NAT64, in any spelling", () => {
    fc.assert(
      fc.property(fc.array(fc.nat({ max: 255 }), { minLength: 4, maxLength: 4 }), (bytes) => {
        const [a = 0, b = 0, c = 0, d = 0] = bytes;
        const dotted = bytes.join(".");
        const low = `${hex(a * 256 + b)}:${hex(c * 256 + d)}`;
        for (const spelling of [
          dotted,
          `::ffff:${dotted}`,
          `::FFFF:${low}`,
          `0:0:0:0:0:ffff:${low}`,
          `::0:ffff:${dotted}`,
          `64:ff9b::${dotted}`,
          `64:FF9B::${low}`,
          `0064:ff9b:0:0:0:0:${low}`,
        ])
          expect([spelling, normalAddress(spelling, 64)]).toEqual([spelling, dotted]);
      }),
    );
  });

  test("an address beside the NAT64 prefix counts by its own prefix, whose key is in its normal form", () => {
    for (const [address, bits, value] of [
      ["64:ff9b::1:1.2.3.4", 64, "64:ff9b::/64"],
      ["64:ff9b:1::1.2.3.4", 64, "64:ff9b:1::/64"],
      ["64:ff9c::1.2.3.4", 64, "64:ff9c::/64"],
      ["64:ff9b::1:1.2.3.4", 80, "64:ff9b::/80"],
      ["64:ff9b::1:1.2.3.4", 96, "64:ff9b::1:0:0/96"],
      ["64:ff9b::1.2.3.4", 64, "1.2.3.4"],
      ["64:ff9b::1.2.3.4", 128, "1.2.3.4"],
    ] as const) {
      expect([address, normalAddress(address, bits)]).toEqual([address, value]);
      expect(normalKey(`ip:${value}`, bits)).toEqual({ ok: true, value: `ip:${value}` });
    }
    for (const [value, bits, normal] of [
      ["64:ff9b::/96", 96, "0.0.0.0"],
      ["64:ff9b::102:304/128", 128, "1.2.3.4"],
      ["64:ff9b::102:304", 64, "1.2.3.4"],
    ] as const)
      expect(normalKey(`ip:${value}`, bits)).toEqual({ ok: true, value: `ip:${normal}` });
  });

  test("accepts exactly the IPv6 addresses that the platform's URL parser accepts", () => {
    const piece = fc.constantFrom(":", "::", "0", "1", "ffff", "12345", "g", ".", "1.2.3.4", "255", "%", "/64", "");
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        const text = pieces.join("");
        const isAddress = /^[0-9a-f:.]+$/i.test(text) && URL.canParse(`http://[${text}]/`);
        fc.pre(text.includes(":"));
        expect([text, normalAddress(text, 64) !== undefined]).toEqual([text, isAddress]);
      }),
      { numRuns: 20_000 },
    );
  });
});

describe("the identity of a subject", () => {
  const ask = (user: string, policies = {}) =>
    readCheck({ policy: "chat", subject: { user, ip: "1.2.3.4" } }, readConfig({ RATE_LIMIT_POLICIES: policies }));

  test("does not depend on other policies, so that a new policy does not turn a retry into a new decision", () => {
    const org = { layers: [{ name: "org", by: ["org"], limits: ["3/second"] }] };
    expect(ask("u_1", { org }).identity).toBe(ask("u_1").identity);
  });

  test("has aliases for other policies, except policies that count by its address alone", () => {
    const by = (...by: string[]) => ({ layers: [{ name: "a", by, limits: ["3/second"] }] });
    const policies = { guard: by("ip"), burst: by("user"), either: by("org", "user"), org: by("org") };
    const config = readConfig({ RATE_LIMIT_POLICIES: policies });
    const aliasesOf = (policy: string, idempotency: Idempotency = { key: "k" }) =>
      readConsume({ policy, subject: { user: "u_1", ip: "1.2.3.4" } }, idempotency, config).aliases;
    const [user, ip] = ["user:u_1", "ip:1.2.3.4"].map(digestOf);
    const chat = `caller=${user},ip=${ip}`;
    expect(aliasesOf("chat")).toEqual([`a=${user}`]);
    expect(aliasesOf("burst")).toEqual([chat]);
    expect(aliasesOf("either")).toEqual([chat]);
    expect(aliasesOf("guard")).toEqual([chat]);
    expect(aliasesOf("chat", {})).toEqual([]);
  });

  test("depends on live layers only: layers in shadow can come, go and change", () => {
    const live = { name: "caller", by: ["user"], limits: ["3/second"] };
    const shadow = { name: "trial", by: ["plan", "ip"], limits: ["3/second"], mode: "shadow" };
    const identityBy = (layers: object[], subject: Record<string, string>) =>
      readCheck({ policy: "p", subject }, readConfig({ RATE_LIMIT_POLICIES: { p: { layers } } })).identity;
    const identity = identityBy([live], { user: "u_1" });
    for (const more of [{}, { plan: "free" }, { plan: "pro", ip: "1.2.3.4" }])
      expect(identityBy([shadow, live], { user: "u_1", ...more })).toBe(identity);
    const inShadow = [{ plan: "free" }, { plan: "pro" }, {}].map((subject) => identityBy([shadow], subject));
    expect(new Set(inShadow).size).toBe(3);
  });

  test("stays recognisable when a layer becomes live or is added, and matches no other subject", () => {
    const caller = { name: "caller", by: ["user"], limits: ["3/second"] };
    const ip = { name: "ip", by: ["ip"], limits: ["3/second"] };
    const org = { name: "org", by: ["org"], limits: ["3/second"] };
    const identityBy = (layers: object[], subject: Record<string, string> = {}) =>
      readCheck(
        { policy: "p", subject: { user: "u", ip: "1.2.3.4", org: "o", ...subject } },
        readConfig({ RATE_LIMIT_POLICIES: { p: { layers } } }),
      ).identity;
    const now = identityBy([caller, ip]);
    for (const layers of [[caller], [ip, caller], [caller, ip, org], [org, caller], [{ ...org, mode: "shadow" }, ip]]) {
      expect(isSameSubject(identityBy(layers), now)).toBe(true);
      expect(isSameSubject(now, identityBy(layers))).toBe(true);
    }
    expect(isSameSubject(identityBy([caller, org], { user: "another" }), now)).toBe(false);
    expect(isSameSubject(identityBy([caller, ip, org], { ip: "1.2.3.5" }), now)).toBe(false);
    expect(isSameSubject(identityBy([org]), now)).toBe(false);
    expect(isSameSubject(inShadow(now), now)).toBe(false);
  });

  test("differs for so many users that a digest of 32 bits would collide", () => {
    const users = Array.from({ length: 300_000 }, (_, i) => `user:${(i * 48271) % 65_537}-${i}-${(i * i) % 9973}`);
    expect(new Set(users.map(digestOf)).size).toBe(users.length);
    expect(new Set(users.map((text) => fnv1a(text))).size).toBeLessThan(users.length);
  }, 60_000);
});

describe("keys", () => {
  const chat = readConfig({}).policies.get("chat");
  if (!chat) throw new Error("there is always a chat policy");

  test("different users never share a key, and a key is its own normal form", () => {
    const user = fc.string({ unit: "binary", maxLength: 40 });
    fc.assert(
      fc.property(user, user, (one, other) => {
        const [a, b] = [one, other].map((user) => keysOf(chat, { user, ip: "1.2.3.4" }));
        if (!a || !b || a.errors.length > 0 || b.errors.length > 0) return;
        expect(a.keys[0] === b.keys[0]).toBe(one.trim() === other.trim());
        expect(normalKey(a.keys[0] ?? "", 64)).toEqual({ ok: true, value: a.keys[0] });
      }),
      { numRuns: 5_000 },
    );
  });

  test("an attribute is validated even if another attribute of the layer is counted by", () => {
    const upload = new Policy("upload", [{ name: "caller", by: ["user", "ip"], limits: [], mode: "live" }]);
    expect(keysOf(upload, { user: "u", ip: "nonsense" }).errors.map(({ pointer }) => pointer)).toEqual(["/subject/ip"]);
    expect(keysOf(upload, { user: "u", ip: " " })).toEqual({ keys: ["user:u"], errors: [] });
  });
});

test("values that were sent with much white space around them take no memory once they are read", () => {
  setFlagsFromString("--expose-gc");
  const collectGarbage = runInNewContext("gc") as () => void;
  const config = readConfig({});
  const bytesInUse = () => {
    collectGarbage();
    return process.memoryUsage().heapUsed;
  };
  const before = bytesInUse();
  for (let i = 0; i < 2_000; i++) {
    const user = `${" ".repeat(20_000)}a user with a long name ${i}`;
    readCheck(JSON.parse(JSON.stringify({ policy: "chat", subject: { user, ip: "1.2.3.4" } })), config);
  }
  expect(bytesInUse() - before).toBeLessThan(10_000_000);
});

test("a layer in shadow is left out if its attributes are absent, but an invalid attribute is reported", () => {
  const layer = { name: "org", by: ["user", "ip"], limits: [], mode: "shadow" } as const;
  const trial = new Policy("trial", [layer, { ...layer, name: "user", by: ["user"] }]);
  expect(keysOf(trial, {})).toEqual({ keys: [undefined, undefined], errors: [] });
  expect(keysOf(trial, { ip: "1.2.3.4" })).toEqual({ keys: ["ip:1.2.3.4", undefined], errors: [] });
  expect(keysOf(trial, { user: "u", ip: "?" }).errors.map(({ pointer }) => pointer)).toEqual(["/subject/ip"]);
});

describe("placement", () => {
  test("with an object per key, the object has the key's name", () => {
    expect(objectOf("user:u_1", { kind: "key" })).toBe("user:u_1");
  });

  test("shards share the keys about evenly, and a key always has the same shard", () => {
    const counts = new Map<string, number>();
    for (let i = 0; i < 20_000; i++) {
      const object = objectOf(`user:${i}`, { kind: "shards", count: 10 });
      expect(object).toBe(objectOf(`user:${i}`, { kind: "shards", count: 10 }));
      counts.set(object, (counts.get(object) ?? 0) + 1);
    }
    expect([...counts.keys()].sort()).toEqual(Array.from({ length: 10 }, (_, i) => `shard:${i}`));
    for (const count of counts.values()) expect(Math.abs(count - 2_000)).toBeLessThan(300);
  });

  test("the placement of a key does not change between versions", () => {
    const placement = { kind: "shards", count: 1_000 } as const;
    // Another placement would forget the counters of every service with shards.
    expect(["user:u_1", "ip:203.0.113.7", "user:ü"].map((key) => objectOf(key, placement))).toEqual([
      "shard:363",
      "shard:913",
      "shard:980",
    ]);
  });

  const byAttribute = (text: string) => {
    const { placement } = readConfig({ LIMITER_PLACEMENT: text });
    return (key: string) => objectOf(key, placement);
  };

  test("an attribute may have shards of its own, and all others, inline keys too, have theirs", () => {
    const placed = byAttribute("ip=shards:1000,user=shards:1,org=key,shards:1000");
    expect(["ip:203.0.113.7", "ip:2001:db8::/64", "user:u_1", "user:ü", "org:o", "team:ip:1"].map(placed)).toEqual([
      "ip-shard:913",
      expect.stringMatching(/^ip-shard:\d+$/),
      "user-shard:0",
      "user-shard:0",
      "org:o",
      expect.stringMatching(/^shard:\d+$/),
    ]);
    for (const key of ["inline/ip:203.0.113.7", "inline/login", "inline/ip=1:2"])
      expect(placed(key)).toBe(objectOf(key, { kind: "shards", count: 1_000 }));
    expect(byAttribute("ip=shards:8,key")("inline/ip:203.0.113.7")).toBe("inline/ip:203.0.113.7");
  });

  test("a change of one attribute's placement moves no key of another", () => {
    const keys = Array.from({ length: 100 }, (_, i) => [`user:${i}`, `org:${i}`, `inline/ip:${i}`]).flat();
    const before = keys.map(byAttribute("ip=shards:8,user=shards:4,shards:4"));
    expect(keys.map(byAttribute("ip=shards:9,user=shards:4,shards:4"))).toEqual(before);
    expect(keys.map(byAttribute("ip=key,user=shards:4,shards:4"))).toEqual(before);
  });

  test("two attributes share no shard", () => {
    const placed = byAttribute("ip=shards:4,user=shards:4,shards:4");
    const objectsOf = (attribute: string) => new Set(Array.from({ length: 99 }, (_, i) => placed(`${attribute}:${i}`)));
    const objects = ["ip", "user", "org"].map(objectsOf);
    expect(objects.map(({ size }) => size)).toEqual([4, 4, 4]);
    expect(new Set(objects.flatMap((names) => [...names])).size).toBe(12);
  });
});

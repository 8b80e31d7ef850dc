import { describe, expect, test } from "vitest";
import { ServiceClock } from "../../console/clock";
import { exactText, instantText, limitText, waitText } from "../../console/format";
import { hrefOfKey, keyOf, routeOf } from "../../console/route";
import { parseLimit } from "../../src/core/limit";

test.each([
  [1, "1 s"],
  [1_000, "1 s"],
  [1_001, "2 s"],
  [59_001, "1 min"],
  [61_000, "1 min 1 s"],
  [3_600_000, "1 h"],
  [3_659_000, "1 h"],
  [3_660_000, "1 h 1 min"],
  [86_400_000, "1 d"],
  [93_600_000, "1 d 2 h"],
])("a wait of %d ms is %s", (ms, text) => {
  expect(waitText(ms)).toBe(text);
});

test.each([
  "5 per minute",
  "2 per 5 seconds",
  "90 per 90 minutes",
  "1 per day",
  "1,000,000 per 31 days",
  "2 concurrent per 5 minutes",
])("the limit %s is formatted as it was written", (text) => {
  expect(limitText(parseLimit(text.replaceAll(",", "")))).toBe(text);
});

test("an instant has its date unless it is today, and its year unless it is this year", () => {
  const nowMs = new Date(2026, 10, 24, 20, 0, 0).getTime();
  const at = (year: number, month: number, day: number) => new Date(year, month, day, 9, 5, 7, 8).getTime();
  expect(instantText(at(2026, 10, 24), nowMs)).toBe("09:05:07");
  expect(exactText(at(2026, 10, 24), nowMs)).toBe("09:05:07.008");
  expect(instantText(at(2026, 10, 25), nowMs)).toBe("25 Nov, 09:05:07");
  expect(instantText(at(2027, 0, 1), nowMs)).toBe("1 Jan 2027, 09:05");
});

describe("the fragment of a page", () => {
  test.each(["user:u_1", "user:a/b?c#d%20 é", "ip:2001:db8:1:2::/64", "user:<b>", "user:policies"])(
    "leads to the key %s",
    (key) => {
      expect(routeOf(hrefOfKey(key))).toEqual({ page: "key", key });
    },
  );

  test.each([
    ["", { page: "overview" }],
    ["#/policies", { page: "policies" }],
    ["#/keys/", { page: "overview" }],
    ["#/keys/user:%zz", { page: "key", key: "user:%zz" }],
  ])("%j is read as a page", (hash, route) => {
    expect(routeOf(hash)).toEqual(route);
  });
});

test.each([
  ["user:u_1", "user:u_1"],
  [" u_1 ", "user:u_1"],
  ["org:acme", "org:acme"],
  ["team:acme", "user:team:acme"],
  ["203.0.113.7", "ip:203.0.113.7"],
  ["2001:db8:1:2::/64", "ip:2001:db8:1:2::/64"],
  ["ip:203.0.113.7", "ip:203.0.113.7"],
  ["2001:DB8:1:2::7", "ip:2001:DB8:1:2::7"],
  ["2001:db8:1:2:3:4:5:6", "ip:2001:db8:1:2:3:4:5:6"],
  ["::1", "ip:::1"],
  ["::ffff:203.0.113.7", "ip:::ffff:203.0.113.7"],
  ["0:0:0:0:0:ffff:203.0.113.7", "ip:0:0:0:0:0:ffff:203.0.113.7"],
  ["[2001:db8::1]:443", "ip:2001:db8::1"],
  ["ip: [2001:db8::1]", "ip:2001:db8::1"],
  ["203.0.113.7:51000", "ip:203.0.113.7"],
  ["fe80::1%eth0", "ip:fe80::1"],
  ["dead:beef", "user:dead:beef"],
  ["100%", "user:100%"],
  ["ip:nonsense", "ip:nonsense"],
])("a search for %s finds the key %s", (text, key) => {
  expect(keyOf(text, ["user", "ip", "org"])).toBe(key);
});

test("the service's time follows from the Date of its answers", () => {
  const clock = new ServiceClock();
  const localMs = Date.now();
  const ahead = () => Math.round((clock.now() - Date.now()) / 1_000);
  clock.adjust(null, localMs, localMs);
  expect(ahead()).toBe(0);
  // The Date is exact to the second, so a smaller difference is not corrected.
  clock.adjust(new Date(localMs - (localMs % 1_000)).toUTCString(), localMs, localMs + 50);
  expect(ahead()).toBe(0);
  clock.adjust(new Date(localMs + 3_600_000).toUTCString(), localMs, localMs);
  expect(ahead()).toBeGreaterThanOrEqual(3_599);
  expect(ahead()).toBeLessThanOrEqual(3_600);
});

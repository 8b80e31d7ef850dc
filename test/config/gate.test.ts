import { expect, test } from "vitest";
import { readConfig } from "../../src/config/config";
import type { ConfigError } from "../../src/config/mistake";

function mistakesOf(gate: unknown): string[] {
  try {
    readConfig({ LIMITER_GATE: gate });
    return [];
  } catch (error) {
    return (error as ConfigError).mistakes.map(({ where, what }) => `${where}: ${what}`);
  }
}

test("the gate is off unless LIMITER_GATE is set", () => {
  expect(readConfig({}).gate).toBeUndefined();
  expect(readConfig({ LIMITER_GATE: " " }).gate).toBeUndefined();
});

test("hops and headers are read, in any order and with spaces", () => {
  expect(readConfig({ LIMITER_GATE: "hops=1" }).gate).toEqual({ hops: 1, headers: new Map() });
  expect(readConfig({ LIMITER_GATE: " user = X-User-Id , hops = 16,org=x_org " }).gate).toEqual({
    hops: 16,
    headers: new Map([
      ["user", "X-User-Id"],
      ["org", "x_org"],
    ]),
  });
  expect(readConfig({ LIMITER_GATE: "ip=CF-Connecting-IP" }).gate?.headers.get("ip")).toBe("CF-Connecting-IP");
});

const SHAPE = "must be hops=NUMBER or ATTRIBUTE=HEADER, the attribute 1 to 64 of a-z, 0-9 and _";
const SECRET = "must not name a header with a secret: its value becomes a key";

test.each<[unknown, string]>([
  [1, "must be text, such as hops=1,user=X-User-Id"],
  ["1", `"1" ${SHAPE}`],
  ["hops=1,", `"" ${SHAPE}`],
  ["User=X-User-Id", `"User=X-User-Id" ${SHAPE}`],
  ["__proto__=X-User-Id", `"__proto__=X-User-Id" ${SHAPE}`],
  ["hops=0", '"hops=0" must be a whole number from 1 to 16'],
  ["hops=17", '"hops=17" must be a whole number from 1 to 16'],
  ["hops=-1", '"hops=-1" must be a whole number from 1 to 16'],
  ["hops=1,hops=2", '"hops=2" must not have hops twice'],
  ["user=A,user=B", '"user=B" must not have user twice'],
  ["user=", '"user=" must have the name of a header after ='],
  ["user=X User", '"user=X User" must have the name of a header after ='],
  ["user=X=Y", '"user=X=Y" must have the name of a header after ='],
  ["user=Authorization", `"user=Authorization" ${SECRET}`],
  ["user=COOKIE", `"user=COOKIE" ${SECRET}`],
  ["user=X-Limiter-Token", `"user=X-Limiter-Token" ${SECRET}`],
  ["ip=X-Forwarded-For", '"ip=X-Forwarded-For" must not name X-Forwarded-For: use hops='],
  ["hops=1,ip=X-Real-IP", "must have either hops or ip: both are the address"],
])("%j is refused with what is wrong", (gate, mistake) => {
  expect(mistakesOf(gate)).toEqual([`LIMITER_GATE: ${mistake}`]);
});

test("all mistakes are told", () => {
  expect(mistakesOf("hops=x,User=A,user=")).toHaveLength(3);
});

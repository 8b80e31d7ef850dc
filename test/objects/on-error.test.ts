import { expect, test, vi } from "vitest";
import type { Fate } from "./world";
import { BatchWorld } from "./world";

vi.spyOn(console, "error").mockImplementation(() => {});

const LAYERS = [
  { name: "caller", by: ["user"], limits: ["1 per minute"] },
  { name: "ip", by: ["ip"], limits: ["100 per minute"] },
];
const SUBJECT = { user: "u_1", ip: "203.0.113.7" };
const REQUEST = { policy: "p", subject: SUBJECT };

/** A user who has used up the limit, and an address whose object has failed since. */
async function worldWithout(object: string, variables: Record<string, string> = {}): Promise<BatchWorld> {
  let isFailing = false;
  const fateOf = (name: string): Fate => ({ lost: isFailing && name === object ? "question" : undefined });
  const world = new BatchWorld({ p: LAYERS }, fateOf, { RATE_LIMIT_ON_ERROR: "allow", ...variables });
  expect((await world.consume(REQUEST)).allowed).toBe(true);
  expect((await world.consume(REQUEST)).allowed).toBe(false);
  isFailing = true;
  return world;
}

test("a denial whose time in the denial cache is over remains a denial while another object is unreachable", async () => {
  const world = await worldWithout("ip:203.0.113.7");
  void world.scheduler.sleep(2_000);
  await world.scheduler.run();
  world.forgetMessages();
  const { allowed, degraded } = await world.consume(REQUEST);
  expect({ allowed, degraded }).toEqual({ allowed: false, degraded: false });
  expect(world.sent.every(({ calls }) => calls[0] === "check")).toBe(true);
});

test("a check is denied by an object that denies while another is unreachable, and is degraded if none denies", async () => {
  const world = await worldWithout("ip:203.0.113.7");
  const check = { op: "check", policy: "p" };
  const [denied] = await world.batch([{ ...check, subject: SUBJECT }]);
  expect(denied?.body).toMatchObject({ allowed: false, degraded: false, retry_after_seconds: 60 });
  const [admitted] = await world.batch([{ ...check, subject: { ...SUBJECT, user: "u_2" } }]);
  expect(admitted?.body).toMatchObject({ allowed: true, degraded: true });
});

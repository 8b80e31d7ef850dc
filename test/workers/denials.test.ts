import { abortAllDurableObjects } from "cloudflare:test";
import { afterEach, describe, expect, test, vi } from "vitest";
import type { KeyState } from "../../src/request/admin-schema";
import { Caller, json, newSubject } from "../behaviour/target";
import { withClock, workerTarget } from "./target";

/** The service on a clock that the test moves. */
function newService() {
  const target = withClock(workerTarget({ RATE_LIMIT_DENY_CACHE_MS: 1_000 }));
  const caller = new Caller(target);
  const stateOf = async (key: string) =>
    json<KeyState>(await caller.admin(`/v1/keys/${encodeURIComponent(key)}?events=0&denials=10`));
  const timesOf = async (key: string) => (await stateOf(key)).denials?.map(({ at }) => Date.parse(at));
  return { target, caller, stateOf, timesOf };
}

afterEach(() => void vi.useRealTimers());

describe("the denials that a key's object remembers", () => {
  test("are those that the object decided, and not those from the denial cache", async () => {
    const { target, caller, timesOf } = newService();
    const subject = newSubject();
    const startMs = Date.now();
    await caller.consume("chat", subject, 5);
    for (let i = 0; i < 3; i++) expect((await caller.consume("chat", subject)).allowed).toBe(false);
    expect(await timesOf(`user:${subject.user}`)).toEqual([startMs]);
    target.advance(1_000);
    // The denial cache has one request ask again, by a check.
    for (let i = 0; i < 3; i++) expect((await caller.consume("chat", subject)).allowed).toBe(false);
    expect(await timesOf(`user:${subject.user}`)).toEqual([startMs + 1_000, startMs]);
  });

  test("are gone with the object's memory, and the answer says since when they are remembered", async () => {
    const { target, caller, stateOf, timesOf } = newService();
    const subject = newSubject();
    const key = `user:${subject.user}`;
    await caller.consume("chat", subject, 5);
    await caller.consume("chat", subject);
    expect((await stateOf(key)).denials).toHaveLength(1);
    await abortAllDurableObjects();
    target.advance(5_000);
    expect(await stateOf(key)).toMatchObject({ denials: [], denials_since: new Date(Date.now()).toISOString() });
    const sinceMs = Date.now();
    target.advance(5_000);
    await caller.consume("chat", subject);
    expect(await timesOf(key)).toEqual([sinceMs + 5_000]);
    expect((await stateOf(key)).denials_since).toBe(new Date(sinceMs).toISOString());
  });

  test("say which override was in force", async () => {
    const { target, caller, stateOf } = newService();
    const subject = newSubject();
    const key = `user:${subject.user}`;
    await target.fetch(`/v1/keys/${encodeURIComponent(key)}/override`, {
      method: "PUT",
      headers: { Authorization: "Bearer admin-token", "Content-Type": "application/json" },
      body: JSON.stringify({ kind: "ban", reason: "a test", expires_in_seconds: 60 }),
    });
    await caller.consume("chat", subject);
    const limit = { layer: "caller", used: 0, override: "ban" };
    expect((await stateOf(key)).denials).toEqual([
      {
        at: expect.any(String),
        policy: "chat",
        cost: 1,
        limits: [
          { ...limit, limit: 5, window_seconds: 60 },
          { ...limit, limit: 60, window_seconds: 3_600 },
        ],
      },
    ]);
    // The address's own counter had room: nothing was denied because of it.
    expect((await stateOf(`ip:${subject.ip}`)).denials).toEqual([]);
  });

  test("say that layers in shadow only would have denied", async () => {
    const { caller, stateOf } = newService();
    const org = `o_${crypto.randomUUID()}`;
    const consume = () => caller.consume("trial", { ...newSubject(), org });
    let wouldDeny: boolean | undefined = false;
    for (let i = 0; i < 100 && !wouldDeny; i++) wouldDeny = (await consume()).would_deny;
    expect(wouldDeny).toBe(true);
    expect((await stateOf(`org:${org}`)).denials).toMatchObject([{ policy: "trial", shadow: true }]);
  });
});

import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { describe, expect, test, vi } from "vitest";
import type { HubObject } from "../../src/hub/hub";
import type { LimiterObject } from "../../src/object/object";
import { newSubject } from "../behaviour/target";
import { openSession } from "./session";

const { LIMITER_HUBS: hubs, LIMITER_OBJECTS: objects } = env as unknown as {
  readonly LIMITER_HUBS: DurableObjectNamespace<HubObject>;
  readonly LIMITER_OBJECTS: DurableObjectNamespace<LimiterObject>;
};

interface Answer {
  readonly id: number | null;
  readonly error?: { readonly status: number };
  readonly results?: readonly { readonly status: number }[];
}

test("a token that is not in force any more ends the session with 4401, and nothing of the message is decided", async () => {
  const socket = await openSession();
  const hub = hubs.getByName("hub:local:0");
  // As after a deploy that took the token away: the hub starts anew, and finds the socket with its attachment.
  await runInDurableObject(hub, (_, state) =>
    state.getWebSockets()[0]?.serializeAttachment({ token: "no digest in force" }),
  );
  const answers: unknown[] = [];
  socket.addEventListener("message", ({ data }) => void answers.push(data));
  const closed = new Promise<number>((resolve) => socket.addEventListener("close", ({ code }) => resolve(code)));
  socket.send(
    JSON.stringify({ id: 1, requests: [{ op: "check", policy: "chat", subject: { user: "u", ip: "10.0.0.1" } }] }),
  );
  expect([await closed, answers]).toEqual([4_401, []]);
});

describe("while an object does not answer", () => {
  /** A session with the answers it got, and requests that wait for one object until it is `released`. */
  async function blocked() {
    const subject = newSubject();
    const object = objects.getByName(`user:${subject.user}`);
    let isBlocked = true;
    // Ends with the block, and asks again and again, as an object can't wait for a promise that another one settles.
    const blocking = runInDurableObject(object, (_, state) =>
      state.blockConcurrencyWhile(async () => {
        while (isBlocked) await scheduler.wait(1);
      }),
    );
    const release = () => {
      isBlocked = false;
      return blocking;
    };
    const socket = await openSession();
    const answers: Answer[] = [];
    socket.addEventListener("message", ({ data }) => void answers.push(JSON.parse(String(data))));
    const send = (id: number, requests: number) => {
      const request = { op: "consume", policy: "chat", subject };
      socket.send(JSON.stringify({ id, requests: Array.from({ length: requests }, () => request) }));
    };
    const answered = (count: number) => vi.waitFor(() => expect(answers).toHaveLength(count), { timeout: 30_000 });
    return { send, answers, answered, release };
  }

  test("1,000 requests wait, one more is a 503, and all that waited are decided", async () => {
    const { send, answers, answered, release } = await blocked();
    for (let id = 0; id < 10; id++) send(id, 100);
    send(10, 1);
    await answered(1);
    expect(answers).toMatchObject([{ id: 10, error: { status: 503 } }]);
    await release();
    await answered(11);
    const statuses = answers.flatMap(({ results = [] }) => results.map(({ status }) => status));
    expect(statuses.filter((status) => status === 200)).toHaveLength(5);
    expect(statuses.filter((status) => status === 429)).toHaveLength(995);
    send(11, 1);
    await answered(12);
    expect(answers[11]).toMatchObject({ id: 11, results: [{ status: 429 }] });
  });

  test("a message with the id of an unanswered one is an error without an id, and nothing of it is decided", async () => {
    const { send, answers, answered, release } = await blocked();
    send(5, 1);
    send(5, 4);
    await answered(1);
    expect(answers).toMatchObject([{ id: null, error: { status: 400 } }]);
    await release();
    await answered(2);
    send(5, 5);
    await answered(3);
    const statuses = answers.slice(1).map(({ id, results = [] }) => [id, results.map(({ status }) => status)]);
    expect(statuses).toEqual([
      [5, [200]],
      [5, [200, 200, 200, 200, 429]],
    ]);
  });
});

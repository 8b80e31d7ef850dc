import type { LimiterRpc } from "../../src/worker";

interface Env {
  /** The limiter, by a service binding with `entrypoint = "LimiterRpc"`. */
  readonly LIMITER: Service<LimiterRpc>;
  /** Whoever sends it may have this Worker call the limiter. Without it nobody may. */
  readonly SMOKE_TOKEN?: string;
}

type Asked = Parameters<LimiterRpc["consume"]>[0];

/** Calls the limiter by RPC, each call once, for a policy and a subject that `npm run smoke` sends. */
export default {
  async fetch(request, { LIMITER: limiter, SMOKE_TOKEN: token }) {
    if (!token || !(await isSame(request.headers.get("Authorization") ?? "", `Bearer ${token}`)))
      return new Response("Unauthorized", { status: 401 });
    const asked = await request.json<Asked>();
    const id = crypto.randomUUID();
    const calls: Record<string, () => PromiseLike<unknown>> = {
      consume: () => limiter.consume({ ...asked, idempotency_key: id }),
      check: () => limiter.check(asked),
      settle: () => limiter.settle({ ...asked, id, cost: 0 }),
      batch: () => limiter.batch({ requests: [{ op: "check", ...asked }] }),
    };
    const called = [];
    // One after the other: a settle needs the consume.
    for (const [call, run] of Object.entries(calls)) called.push({ call, ...(await timed(run)) });
    return Response.json(called);
  },
} satisfies ExportedHandler<Env>;

async function timed(call: () => PromiseLike<unknown>): Promise<{ ms: number; error?: string }> {
  const startMs = Date.now();
  try {
    await call();
    return { ms: Date.now() - startMs };
  } catch (error) {
    return { ms: Date.now() - startMs, error: error instanceof Error ? error.message : String(error) };
  }
}

/** Compares in constant time. Digests have one length, which the comparison needs. */
async function isSame(a: string, b: string): Promise<boolean> {
  const digest = (text: string) => crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return crypto.subtle.timingSafeEqual(await digest(a), await digest(b));
}

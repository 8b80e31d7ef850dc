import { broken, type Line, look, timed } from "./line";
import { newSubject, type Policy, Service } from "./service";

/** What `examples/rpc` answers. */
interface Called {
  readonly call: string;
  readonly ms: number;
  readonly error?: string;
}

/** `LimiterRpc`, called by the Worker of `examples/rpc`. No call from outside reaches it. */
export async function rpc(url: string | undefined, token: string, policy: Policy): Promise<Line> {
  const what = "LimiterRpc";
  if (url === undefined)
    return look(what, "not called: deploy examples/rpc, and name it by --rpc-url", "consume, check, settle, batch");
  const { status, body } = await new Service(url, token).post("/", {
    policy: policy.name,
    subject: newSubject(policy),
  });
  const calls = Array.isArray(body) ? (body as Called[]) : [];
  const failed = calls.find(({ error }) => error !== undefined);
  if (status !== 200 || calls.length === 0 || failed)
    return broken(what, failed ? `${failed.call}: ${failed.error}` : `${status}: ${JSON.stringify(body)}`, "no error");
  const slowest = Math.max(...calls.map(({ ms }) => ms));
  return timed(`${what}, slowest of ${calls.map(({ call }) => call).join(", ")}`, slowest, 500);
}

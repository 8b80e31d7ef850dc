import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** One limit of a decision, and the key that it counts by. */
export interface AskedLimit {
  readonly layer: string;
  readonly key: string;
  readonly max: number;
  readonly windowMs: number;
}

export interface Standing {
  readonly used: number;
  readonly waitMs: number;
}

/** What a peer makes of a decision: how every limit stands, in the order asked. It is denied by those with a wait. */
export type Decide = (op: "consume" | "check", asked: readonly AskedLimit[], id: string) => Promise<Standing[]>;

export interface Peer {
  readonly decide: Decide;
  /** Several consumes in the fewest calls of the store; without it there are no batches. */
  readonly decideAll?: (asked: readonly (readonly AskedLimit[])[]) => Promise<Standing[][]>;
}

interface DecisionBody {
  readonly policy: string;
  readonly subject: { readonly user?: string; readonly ip: string };
}

/** Called as the service is, answering as it does, on the fastest server that Node brings. Prints its URL. */
export function serve({ decide, decideAll }: Peer): void {
  const server = createServer(async (request, response) => {
    try {
      if (request.headers.authorization !== `Bearer ${process.env.TOKEN}`) return response.writeHead(401).end();
      const body: unknown = JSON.parse(await textOf(request));
      if (request.url === "/v1/batch" && decideAll) {
        const { requests } = body as { requests: DecisionBody[] };
        const asked = requests.map(askedOf);
        const standings = await decideAll(asked);
        const results = requests.map((each, i) => answerOf(each, asked[i] ?? [], standings[i] ?? []));
        return send(response, 200, {}, { results: results.map(({ status, body }) => ({ status, body })) });
      }
      const op = request.url === "/v1/check" ? "check" : "consume";
      const decision = body as DecisionBody;
      const asked = askedOf(decision);
      const { status, headers, body: answer } = answerOf(decision, asked, await decide(op, asked, crypto.randomUUID()));
      send(response, op === "check" ? 200 : status, headers, answer);
    } catch (error) {
      console.error(error);
      response.writeHead(500).end();
    }
  });
  server.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${(server.address() as AddressInfo).port}`));
}

function textOf(request: IncomingMessage): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    request.setEncoding("utf8");
    request
      .on("data", (part) => (text += part))
      .on("end", () => resolve(text))
      .on("error", reject);
  });
}

/** The three limits of the policy: LIMITS gives each policy's `[per minute, per hour, per minute and address]`. */
const LIMITS = JSON.parse(process.env.LIMITS ?? "{}") as Record<string, [number, number, number]>;

function askedOf({ policy, subject: { user, ip } }: DecisionBody): AskedLimit[] {
  const [perMinute, perHour, addressPerMinute] = LIMITS[policy] ?? [5, 60, 30];
  const caller = user === undefined ? `ip:${ip}` : `user:${user}`;
  return [
    { layer: "caller", key: caller, max: perMinute, windowMs: 60_000 },
    { layer: "caller", key: caller, max: perHour, windowMs: 3_600_000 },
    { layer: "ip", key: `ip:${ip}`, max: addressPerMinute, windowMs: 60_000 },
  ];
}

function answerOf({ policy }: DecisionBody, asked: readonly AskedLimit[], standings: readonly Standing[]) {
  const waitMs = Math.max(...standings.map((standing) => standing.waitMs));
  const retryAfter = waitMs > 0 ? Math.ceil(waitMs / 1_000) : null;
  const limits = asked.map(({ layer, key, max, windowMs }, i) => {
    const used = standings[i]?.used ?? 0;
    const window = windowMs / 1_000;
    const remaining = Math.max(0, max - used);
    return { layer, key, limit: max, window_seconds: window, used, remaining, reset_seconds: used > 0 ? window : 0 };
  });
  const name = ({ layer, window_seconds }: (typeof limits)[number]) => `"${layer}/${window_seconds}s"`;
  const headers: Record<string, string> = {
    "RateLimit-Policy": limits.map((each) => `${name(each)};q=${each.limit};w=${each.window_seconds}`).join(", "),
    RateLimit: limits.map((each) => `${name(each)};r=${each.remaining};t=${each.reset_seconds}`).join(", "),
  };
  if (retryAfter !== null) headers["Retry-After"] = String(retryAfter);
  const id = retryAfter === null ? { id: crypto.randomUUID() } : {};
  const decided = { policy, cost: 1, replayed: false, degraded: false, retry_after_seconds: retryAfter, limits };
  return {
    status: retryAfter === null ? 200 : 429,
    headers,
    body: { allowed: retryAfter === null, ...id, ...decided },
  };
}

function send(response: ServerResponse, status: number, headers: Record<string, string>, body: unknown): void {
  const text = JSON.stringify(body);
  const length = String(Buffer.byteLength(text));
  response.writeHead(status, { "Content-Type": "application/json", "Content-Length": length, ...headers }).end(text);
}

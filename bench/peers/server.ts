import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** One limit of a decision, and the key that it counts by. */
export interface PeerLimit {
  readonly layer: string;
  readonly key: string;
  readonly max: number;
  readonly windowMs: number;
}

export interface Standing {
  readonly used: number;
  readonly waitMs: number;
}

/** Decides over limits. Resolves with the standing of each, in their order. Any wait above 0 is a denial. */
export type Decide = (op: "consume" | "check", limits: readonly PeerLimit[], id: string) => Promise<Standing[]>;

export interface Peer {
  readonly decide: Decide;
  /** Decides several consumes in as few calls of the store as possible. Without it the peer has no batches. */
  readonly decideAll?: (decisions: readonly (readonly PeerLimit[])[]) => Promise<Standing[][]>;
}

interface DecisionBody {
  readonly policy: string;
  readonly subject: { readonly user?: string; readonly ip: string };
}

/** Serves a peer with the API of the service on Node's fastest server. Prints its URL. */
export function serve({ decide, decideAll }: Peer): void {
  const server = createServer(async (request, response) => {
    try {
      if (request.headers.authorization !== `Bearer ${process.env.TOKEN}`) return response.writeHead(401).end();
      const body: unknown = JSON.parse(await textOf(request));
      if (request.url === "/v1/batch" && decideAll) {
        const { requests } = body as { requests: DecisionBody[] };
        const limits = requests.map(limitsOf);
        const standings = await decideAll(limits);
        const results = requests.map((each, i) => replyOf(each, limits[i] ?? [], standings[i] ?? []));
        return send(response, 200, {}, { results: results.map(({ status, body }) => ({ status, body })) });
      }
      const op = request.url === "/v1/check" ? "check" : "consume";
      const decision = body as DecisionBody;
      const limits = limitsOf(decision);
      const reply = replyOf(decision, limits, await decide(op, limits, crypto.randomUUID()));
      send(response, op === "check" ? 200 : reply.status, reply.headers, reply.body);
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

/** The limits of each policy: `[per minute, per hour, per minute and address]`. */
const LIMITS = JSON.parse(process.env.LIMITS ?? "{}") as Record<string, [number, number, number]>;

function limitsOf({ policy, subject: { user, ip } }: DecisionBody): PeerLimit[] {
  const [perMinute, perHour, addressPerMinute] = LIMITS[policy] ?? [5, 60, 30];
  const caller = user === undefined ? `ip:${ip}` : `user:${user}`;
  return [
    { layer: "caller", key: caller, max: perMinute, windowMs: 60_000 },
    { layer: "caller", key: caller, max: perHour, windowMs: 3_600_000 },
    { layer: "ip", key: `ip:${ip}`, max: addressPerMinute, windowMs: 60_000 },
  ];
}

function replyOf({ policy }: DecisionBody, peerLimits: readonly PeerLimit[], standings: readonly Standing[]) {
  const waitMs = Math.max(...standings.map((standing) => standing.waitMs));
  const retryAfter = waitMs > 0 ? Math.ceil(waitMs / 1_000) : null;
  const limits = peerLimits.map(({ layer, key, max, windowMs }, i) => {
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
  const rest = { policy, cost: 1, replayed: false, degraded: false, retry_after_seconds: retryAfter, limits };
  return {
    status: retryAfter === null ? 200 : 429,
    headers,
    body: { allowed: retryAfter === null, ...id, ...rest },
  };
}

function send(response: ServerResponse, status: number, headers: Record<string, string>, body: unknown): void {
  const text = JSON.stringify(body);
  const length = String(Buffer.byteLength(text));
  response.writeHead(status, { "Content-Type": "application/json", "Content-Length": length, ...headers }).end(text);
}

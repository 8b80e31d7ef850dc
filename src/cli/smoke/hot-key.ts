import { broken, type Line, quantile } from "./line";
import { admittedWithin, newSubject, type Policy, type Service, type Subject } from "./service";
import { nextMessage, openSession } from "./session";

const HTTP_LOOPS = 8;
/** Consumes of a message. */
const MESSAGE = 8;
/** The deadline of a decision, by default. */
const NORMAL_MS = 1_000;
/** A share of failures that is no longer a blink. */
const BROKEN_SHARE = 0.01;

/** What was answered, by status, and how long each answer took. */
export class Tally {
  readonly statuses = new Map<number, number>();
  readonly times: number[] = [];

  count(status: number): void {
    this.statuses.set(status, this.of(status) + 1);
  }

  of(...statuses: readonly number[]): number {
    return statuses.reduce((sum, status) => sum + (this.statuses.get(status) ?? 0), 0);
  }

  get total(): number {
    return this.of(...this.statuses.keys());
  }
}

/** What asks about the key until it is over, and counts what it hears. */
interface Load {
  readonly service: Service;
  readonly policy: string;
  readonly subject: Subject;
  readonly tally: Tally;
  readonly isOver: () => boolean;
}

/** One key under load, over HTTP and a session at once: it admits what its limits allow, and denies the rest quickly. */
export async function hotKey(service: Service, policy: Policy, seconds: number): Promise<Line> {
  const tally = new Tally();
  const startMs = performance.now();
  const isOver = () => performance.now() - startMs > seconds * 1_000;
  const load = { service, policy: policy.name, subject: newSubject(policy), tally, isOver };
  const loops = Array.from({ length: HTTP_LOOPS }, () => overHttp(load));
  // Clients do without a session where there is none.
  const overASession = overSession(load).catch(() => {});
  await Promise.all([...loops, overASession]);
  return judge(policy, tally, (performance.now() - startMs) / 1_000);
}

async function overHttp({ service, policy, subject, tally, isOver }: Load): Promise<void> {
  while (!isOver()) {
    const answer = await service.post("/v1/consume", { policy, subject }).catch(() => undefined);
    tally.count(answer?.status ?? 0);
    if (answer) tally.times.push(answer.ms);
  }
}

async function overSession({ service, policy, subject, tally, isOver }: Load): Promise<void> {
  const socket = await openSession(service);
  const requests = Array.from({ length: MESSAGE }, () => ({ op: "consume", policy, subject }));
  for (let id = 0; !isOver(); id++) {
    const startMs = performance.now();
    socket.send(JSON.stringify({ id, requests, limits: false }));
    const { results } = JSON.parse(await nextMessage(socket)) as { results?: readonly { status: number }[] };
    tally.times.push(performance.now() - startMs);
    for (const { status } of results ?? []) tally.count(status);
  }
  socket.close();
}

/** What a hot key was answered, and whether that is exact. */
export function judge(policy: Policy, tally: Tally, seconds: number): Line {
  const { least, most } = admittedWithin(policy, seconds);
  const what = `a hot key, ${Math.round(seconds)} s`;
  const [admitted, denied] = [tally.of(200), tally.of(429)];
  const failed = tally.total - admitted - denied;
  const p99Ms = quantile(tally.times, 0.99);
  const failures = failed === 0 ? "" : `, ${failed} failed (${[...tally.statuses.keys()].join(", ")})`;
  const measured = `${Math.round(tally.total / seconds)}/s, p99 ${Math.round(p99Ms)} ms, ${admitted} admitted, ${denied} denied${failures}`;
  const normal = `${least === most ? most : `${least} to ${most}`} admitted, none failed, p99 at most ${NORMAL_MS} ms`;
  // A charge that failed may have been recorded: then fewer are admitted.
  const isInexact = admitted > most || (denied > 0 && failed === 0 && admitted < least);
  if (isInexact || tally.total === 0 || failed > BROKEN_SHARE * tally.total) return broken(what, measured, normal);
  return { what, measured, normal, state: p99Ms <= NORMAL_MS && failed === 0 ? "ok" : "slow" };
}

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { resolve } from "node:path";
import { createInterface } from "node:readline";
import { costUnder, decidingLimits, keyOf, type Limit, type TraceRequest } from "../traces";
import type { Peer, PeerDecision } from "./peer";

const WORKER = resolve(import.meta.dirname, "limits_worker.py");

export interface Strategy {
  readonly storage: "memory" | "redis";
  readonly strategy: "fixed-window" | "moving-window" | "sliding-window-counter";
}

type Reply = { readonly id: number; readonly error?: string; readonly allowed: boolean; readonly reset?: number };

/** A container of a Python backend: a process that decides with `limits`. */
export class Container {
  #process: ChildProcess;
  readonly #waiting = new Map<number, (reply: Reply) => void>();
  #sent = 0;

  constructor(
    private readonly python: string,
    private readonly redisPort: number,
  ) {
    this.#process = this.#start();
  }

  async decide(
    { storage, strategy }: Strategy,
    limits: readonly Limit[],
    request: TraceRequest,
  ): Promise<PeerDecision> {
    const id = this.#sent++;
    const items = decidingLimits(limits, request).map((limit) => [
      limit.layer,
      keyOf(limit, request),
      limit.max,
      limit.windowMs / 1_000,
      costUnder(limit, request),
    ]);
    const reply = new Promise<Reply>((resolve) => this.#waiting.set(id, resolve));
    this.#process.stdin?.write(`${JSON.stringify({ id, storage, strategy, limits: items })}\n`);
    const { error, allowed, reset } = await reply;
    if (error !== undefined) throw new Error(error);
    return {
      allowed,
      reportedWait: reset === undefined ? undefined : { from: "epoch", ms: reset * 1_000, roundedUpToMs: 1 },
    };
  }

  /** Kills the process without warning, and restarts it. */
  async killAndRestart(): Promise<void> {
    const ended = once(this.#process, "exit");
    this.#process.kill("SIGKILL");
    await ended;
    for (const [id, settle] of this.#waiting) settle({ id, error: "the container was killed", allowed: false });
    this.#waiting.clear();
    this.#process = this.#start();
  }

  #start(): ChildProcess {
    const env = { ...process.env, REDIS_PORT: String(this.redisPort) };
    // The process ends with its input, so at the latest with this process.
    const child = spawn(this.python, [WORKER], { env, stdio: ["pipe", "pipe", "inherit"] });
    child.stdin.on("error", () => {});
    createInterface({ input: child.stdout }).on("line", (line) => {
      const reply = JSON.parse(line) as Reply;
      this.#waiting.get(reply.id)?.(reply);
      this.#waiting.delete(reply.id);
    });
    return child;
  }
}

const NAMES: Readonly<Record<Strategy["storage"], string>> = {
  memory: "`limits` in memory",
  redis: "`limits` on Redis",
};

/** A Python backend: the container that gets a request decides it. */
export function limitsPeer(containers: readonly Container[], strategy: Strategy, limits: readonly Limit[]): Peer {
  return {
    name: `${NAMES[strategy.storage]}, ${strategy.strategy}`,
    limits,
    shortcomings: "one limit after the other; no idempotency key",
    windowsSeen: strategy.strategy === "sliding-window-counter" ? 2 : 1,
    decide: (request) => (containers[request.container] as Container).decide(strategy, limits, request),
  };
}

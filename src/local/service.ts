import type { ChildProcess } from "node:child_process";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { once } from "node:events";
import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { Log, LogLevel, Miniflare, type WorkerOptions } from "miniflare";
import { StartFailure } from "./failure";
import type { Variables } from "./variables";
import { killOnExit } from "./watchdog";

/** How long requests under way may take to end when the service is stopped. */
const DRAIN_MS = 5_000;

const NAME = "exact-limiter";

/** What the files of the console are bound to, and the Worker that serves them is called. */
const ASSETS = "ASSETS";

/** What `Shutdown` of the Worker is bound to, and how long it may take. */
const SHUTDOWN = "LIMITER_SHUTDOWN";
const SHUTDOWN_MS = 3_000;

const PORT_WAIT_MS = 3_000;

export interface ServiceOptions {
  readonly host: string;
  readonly port: number;
  readonly dataDirectory: string;
  readonly script: string;
  readonly variables: Variables;
  /** The bindings and compatibility settings of `wrangler.toml`. */
  readonly workerOptions: Partial<WorkerOptions>;
  /** Whether the Worker exports `Shutdown`, which writes what it has counted. */
  readonly hasShutdown?: boolean;
  /** Where V8's inspector listens, for a profile; nowhere when left out. */
  readonly inspectorPort?: number;
}

export interface LocalService {
  readonly url: URL;
  /** Resolves when the runtime has ended, on its own or by `stop`. */
  readonly ended: Promise<unknown>;
  /** Takes no new requests, lets those under way end, has the counts written that are held in memory, ends the runtime. */
  stop(): Promise<void>;
}

/** The Worker on the real runtime, its counters on disk. */
export async function startLocalService(options: ServiceOptions): Promise<LocalService> {
  const { host, port, dataDirectory, script, variables, hasShutdown = false, inspectorPort } = options;
  const { assets, ...workerOptions } = options.workerOptions;
  await waitForPort(host, port);
  const runtime = nextChildProcess();
  const miniflare = new Miniflare({
    // Only Miniflare's and the Worker's errors are worth a line.
    log: new Log(LogLevel.ERROR),
    cf: false,
    ...(inspectorPort !== undefined && { inspectorPort }),
    defaultPersistRoot: dataDirectory,
    workers: [
      {
        ...(workerOptions as WorkerOptions),
        name: NAME,
        modules: [{ type: "ESModule", path: "worker.js", contents: script }],
        bindings: variables as Record<string, never>,
        // Straight to the Worker: Miniflare's own entry costs more than a decision does.
        unsafeDirectSockets: [{ host, port }],
        serviceBindings: {
          ...(assets && { [ASSETS]: ASSETS }),
          ...(hasShutdown && { [SHUTDOWN]: { name: NAME, entrypoint: "Shutdown" } }),
        },
      },
      ...(assets ? [assetsWorker(assets)] : []),
    ],
  });
  await miniflare.ready;
  const workerd = await runtime;
  const ended = once(workerd, "exit");
  const watchdog = killOnExit(workerd);

  return {
    url: await miniflare.unsafeGetDirectURL(),
    ended,
    async stop() {
      // Before it is told to end: from then on nobody can reach it.
      if (hasShutdown) await Promise.race([writeCounts(miniflare), ended, sleep(SHUTDOWN_MS)]);
      workerd.kill("SIGTERM");
      await Promise.race([ended, sleep(DRAIN_MS)]);
      await miniflare.dispose();
      watchdog.kill();
    },
  };
}

async function writeCounts(miniflare: Miniflare): Promise<void> {
  try {
    const bindings = await miniflare.getBindings<{ [SHUTDOWN]: { writeCounts(): Promise<void> } }>(NAME);
    await bindings[SHUTDOWN].writeCounts();
  } catch (error) {
    console.error("The counts of the last seconds could not be written, and are lost:", error);
  }
}

/** A Worker of their own: before one that has assets Miniflare puts two others, through which each decision would go. */
function assetsWorker(assets: NonNullable<WorkerOptions["assets"]>): WorkerOptions {
  return {
    name: ASSETS,
    modules: true,
    script: "export default {}",
    assets: { ...assets, routerConfig: { has_user_worker: false } },
  };
}

/** The runtime's process, which Miniflare keeps to itself. */
function nextChildProcess(): Promise<ChildProcess> {
  return new Promise((resolve) => {
    const found = (message: unknown) => {
      unsubscribe("child_process", found);
      resolve((message as { process: ChildProcess }).process);
    };
    subscribe("child_process", found);
  });
}

/** Waits a little for a service that is just ending. */
async function waitForPort(host: string, port: number): Promise<void> {
  for (const giveUpAtMs = Date.now() + PORT_WAIT_MS; ; await sleep(50)) {
    const error = await tryPort(host, port);
    if (error === undefined) return;
    if (error.code === "EADDRINUSE" && Date.now() < giveUpAtMs) continue;
    const why =
      error.code === "EADDRINUSE"
        ? "is taken: stop what listens there, or set PORT to another port"
        : `can't be used (${error.code}): set HOST or PORT to another value`;
    throw new StartFailure(`${host}:${port} ${why}.`);
  }
}

function tryPort(host: string, port: number): Promise<NodeJS.ErrnoException | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", resolve).listen(port, host, () => server.close(() => resolve(undefined)));
  });
}

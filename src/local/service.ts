import type { ChildProcess } from "node:child_process";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { once } from "node:events";
import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { Miniflare, WorkerOptions } from "miniflare";
import { StartFailure } from "./failure";
import type { Variables } from "./variables";
import { killOnExit } from "./watchdog";

/** Time for requests in flight to end when the service stops. */
const DRAIN_MS = 5_000;

const NAME = "exact-limiter";

/** The binding of the console's files, and the name of the Worker that serves them. */
const ASSETS = "ASSETS";

/** The binding of the Worker's `Shutdown`. */
const SHUTDOWN = "LIMITER_SHUTDOWN";
const SHUTDOWN_MS = 3_000;

/** The version that the service is tested with. Newer ones need Node 22. */
const MINIFLARE = "4.20260426.0";

const PORT_WAIT_MS = 3_000;
const PORT_RETRY_MS = 50;

export interface ServiceOptions {
  readonly host: string;
  readonly port: number;
  readonly dataDirectory: string;
  readonly script: string;
  readonly variables: Variables;
  /** The bindings and compatibility settings of `wrangler.toml`. */
  readonly workerOptions: Partial<WorkerOptions>;
  /** The Worker exports `Shutdown`, which writes its counts. */
  readonly hasShutdown?: boolean;
  /** The port of V8's inspector, for a profile. Left out: no inspector. */
  readonly inspectorPort?: number;
}

export interface LocalService {
  readonly url: URL;
  /** Resolves when the runtime has ended, by itself or by `stop`. */
  readonly ended: Promise<unknown>;
  /** Refuses new requests, waits for those in flight, writes the counts that are in memory, and ends the runtime. */
  stop(): Promise<void>;
}

/** Starts the Worker on the real runtime, with counters on disk. */
export async function startLocalService(options: ServiceOptions): Promise<LocalService> {
  const { host, port, dataDirectory, script, variables, hasShutdown = false, inspectorPort } = options;
  const { assets, ...workerOptions } = options.workerOptions;
  const { Log, LogLevel, Miniflare } = await loadMiniflare();
  await waitForPort(host, port);
  const runtime = nextChildProcess();
  const miniflare = new Miniflare({
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
        // Straight to the Worker: Miniflare's own entry costs more than a decision.
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
      // Before SIGTERM: after it nothing can reach the Worker.
      if (hasShutdown) await Promise.race([writeCounts(miniflare), ended, sleep(SHUTDOWN_MS)]);
      workerd.kill("SIGTERM");
      await Promise.race([ended, sleep(DRAIN_MS)]);
      await miniflare.dispose();
      watchdog.kill();
    },
  };
}

/** The package installs without the runtime, which is large: clients and most commands do without. */
async function loadMiniflare(): Promise<typeof import("miniflare")> {
  try {
    return await import("miniflare");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ERR_MODULE_NOT_FOUND") throw error;
    throw new StartFailure(
      `The runtime is not installed. Install it beside exact-limiter: npm install --save-dev miniflare@${MINIFLARE}`,
    );
  }
}

async function writeCounts(miniflare: Miniflare): Promise<void> {
  try {
    const bindings = await miniflare.getBindings<{ [SHUTDOWN]: { writeCounts(): Promise<void> } }>(NAME);
    await bindings[SHUTDOWN].writeCounts();
  } catch (error) {
    console.error("The counts of the last seconds could not be written. They are lost.", error);
  }
}

/** Serves the assets from a Worker of their own: Miniflare puts two more Workers before a Worker that has assets. */
function assetsWorker(assets: NonNullable<WorkerOptions["assets"]>): WorkerOptions {
  return {
    name: ASSETS,
    modules: true,
    script: "export default {}",
    assets: { ...assets, routerConfig: { has_user_worker: false } },
  };
}

/** The process of the runtime. Miniflare does not expose it. */
function nextChildProcess(): Promise<ChildProcess> {
  return new Promise((resolve) => {
    const onStart = (message: unknown) => {
      unsubscribe("child_process", onStart);
      resolve((message as { process: ChildProcess }).process);
    };
    subscribe("child_process", onStart);
  });
}

/** Waits until the port is free: briefly, for a service that is ending. */
async function waitForPort(host: string, port: number): Promise<void> {
  const giveUpAtMs = Date.now() + PORT_WAIT_MS;
  do {
    const error = await tryPort(host, port);
    if (error === undefined) return;
    if (error.code !== "EADDRINUSE")
      throw new StartFailure(`${host}:${port} can't be used (${error.code}): set HOST or PORT to another value.`);
    await sleep(PORT_RETRY_MS);
  } while (Date.now() < giveUpAtMs);
  throw new StartFailure(`${host}:${port} is taken: stop what listens there, or set PORT to another port.`);
}

function tryPort(host: string, port: number): Promise<NodeJS.ErrnoException | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", resolve).listen(port, host, () => server.close(() => resolve(undefined)));
  });
}

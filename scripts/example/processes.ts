import { randomBytes } from "node:crypto";
import type { Server } from "node:http";
import { killOnExit } from "../../src/local/watchdog";
import { CLIENT_WITH_FASTAPI, ensurePython } from "../../tools/python";
import { ServiceProcess } from "../../tools/service-process";
import { BackendProcess } from "./backend";
import { startProxy } from "./proxy";

/** The Python packages of the chat's backend. */
export const REQUIREMENTS = [CLIENT_WITH_FASTAPI, "uvicorn==0.54.0"];

const BACKENDS = 3;

export interface ExampleOptions {
  /** The port of the chat. Any free port by default. */
  readonly port?: number;
  readonly hasTestClock?: boolean;
  readonly freeMessages?: number;
  /** What the backends decide about a message while the limiter is down. */
  readonly onError?: "deny" | "allow";
  /** The limiter's variables, as the README lists them. */
  readonly variables?: Readonly<Record<string, string>>;
}

/** The chat of `examples/chat`: a limiter, several processes of the backend, and one port in front of them. */
export class ExampleProcesses {
  /** Resolves with the name and the output of the first process that ends. */
  readonly ended: Promise<string>;

  private constructor(
    readonly url: string,
    readonly limiter: ServiceProcess,
    private readonly proxy: Server,
    private readonly backends: readonly BackendProcess[],
  ) {
    this.ended = Promise.race([
      limiter.ended.then(() => `The limiter:\n${limiter.output}`),
      ...backends.map((backend, i) => backend.ended.then(() => `Backend ${i + 1}:\n${backend.output}`)),
    ]);
  }

  /**
   * Starts all processes, and waits until they serve.
   * @throws StartFailure if one does not start. Those that have started end with this process.
   */
  static async start(options: ExampleOptions = {}): Promise<ExampleProcesses> {
    const { port = 0, hasTestClock = false, freeMessages = 20, onError = "deny", variables = {} } = options;
    const bin = ensurePython(REQUIREMENTS);
    const token = randomBytes(24).toString("base64url");
    const limiter = await ServiceProcess.start(
      { ...variables, LIMITER_TOKENS: token, RATE_LIMIT_POLICIES: JSON.stringify(trial(freeMessages)) },
      { args: hasTestClock ? ["--test-clock"] : [] },
    );
    const watchdog = killOnExit(limiter.npm);
    limiter.ended.finally(() => watchdog.kill());

    const environment = { LIMITER_URL: limiter.url, LIMITER_TOKEN: token, LIMITER_ON_ERROR: onError };
    const numbers = Array.from({ length: BACKENDS }, (_, i) => String(i + 1));
    const backends = await Promise.all(
      numbers.map((number) => BackendProcess.start(bin, { ...environment, PROCESS_NUMBER: number })),
    );
    const targets = backends.map(({ url }) => new URL(url));
    const { server, url } = await startProxy(targets, port);
    return new ExampleProcesses(url, limiter, server, backends);
  }

  async stop(): Promise<void> {
    this.proxy.close();
    this.proxy.closeAllConnections();
    await Promise.all([this.limiter, ...this.backends].map((process) => process.stop()));
  }
}

/** The policy of free messages: counted by the user, and by the address without a user. */
function trial(freeMessages: number) {
  return { trial: { layers: [{ name: "caller", by: ["user", "ip"], limits: [`${freeMessages} per 31 days`] }] } };
}

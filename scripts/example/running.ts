import { randomBytes } from "node:crypto";
import { killOnExit } from "../../src/local/watchdog";
import { ServiceProcess } from "../../tools/service-process";
import type { UvicornProcess } from "./uvicorn";

/** The options that all examples share. */
export interface ExampleOptions {
  /** The port of the page. Any free port by default. */
  readonly port?: number;
  readonly hasTestClock?: boolean;
  /** The limiter's variables, as the README lists them. */
  readonly variables?: Readonly<Record<string, string>>;
}

/** An example that serves: a limiter of its own, the Python processes that ask it, and one port in front of them. */
export class RunningExample {
  /** Resolves with the name and the output of the first process that ends. */
  readonly ended: Promise<string>;

  constructor(
    readonly url: string,
    readonly limiter: ServiceProcess,
    private readonly processes: readonly UvicornProcess[],
    private readonly closePort: () => void,
  ) {
    this.ended = Promise.race([
      limiter.ended.then(() => `The limiter:\n${limiter.output}`),
      ...processes.map((each) => each.ended.then(() => `${each.name}:\n${each.output}`)),
    ]);
  }

  async stop(): Promise<void> {
    this.closePort();
    await Promise.all([this.limiter, ...this.processes].map((process) => process.stop()));
  }
}

/** Starts the limiter of an example, with these policies. Its token is new each time. */
export async function startLimiter(
  policies: object,
  { hasTestClock = false, variables = {} }: ExampleOptions,
): Promise<{ limiter: ServiceProcess; token: string }> {
  const token = randomBytes(24).toString("base64url");
  const limiter = await ServiceProcess.start(
    { ...variables, LIMITER_TOKENS: token, RATE_LIMIT_POLICIES: JSON.stringify(policies) },
    { args: hasTestClock ? ["--test-clock"] : [] },
  );
  const watchdog = killOnExit(limiter.npm);
  limiter.ended.finally(() => watchdog.kill());
  return { limiter, token };
}

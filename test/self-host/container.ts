import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import type { Image } from "./image";

/** The command of an image, running with a volume. */
export class Container {
  output = "";
  readonly #unshare: ChildProcess;
  readonly #ended: Promise<number>;

  private constructor(
    readonly image: Image,
    readonly volume: string,
    readonly environment: Readonly<Record<string, string>>,
  ) {
    this.#unshare = image.root.spawn(image.command, image.conditions(volume, environment));
    for (const stream of [this.#unshare.stdout, this.#unshare.stderr])
      stream?.on("data", (chunk) => (this.output += chunk));
    this.#ended = once(this.#unshare, "close").then(([code]) => code as number);
    // It would serve on if the tests failed.
    const kill = () => this.#unshare.kill("SIGKILL");
    process.on("exit", kill);
    this.#ended.finally(() => process.off("exit", kill));
  }

  /** Starts the command, and waits until it serves. */
  static async start(image: Image, volume: string, environment: Readonly<Record<string, string>>): Promise<Container> {
    const container = new Container(image, volume, environment);
    const ended = container.#ended.then(() => {
      throw new Error(`It ended:\n${container.output}`);
    });
    while (!/console is at|no admin token/.test(container.output))
      await Promise.race([once(container.#unshare.stdout as NonNullable<ChildProcess["stdout"]>, "data"), ended]);
    ended.catch(() => {});
    return container;
  }

  get port(): string {
    return /serves on http:\S+:(\d+),/.exec(this.output)?.[1] ?? "";
  }

  /** Process 1 of the container. */
  get pid(): number {
    const { pid } = this.#unshare;
    return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim());
  }

  /** The exit code of the health check. */
  async health(): Promise<number> {
    const { code } = await this.image.root.run(
      this.image.healthCheck,
      this.image.conditions(this.volume, { ...this.environment, PORT: this.port }),
    );
    return code;
  }

  /** Sends SIGTERM to process 1, as `docker stop` does. Returns the exit code. */
  stop(): Promise<number> {
    process.kill(this.pid, "SIGTERM");
    return this.#ended;
  }
}

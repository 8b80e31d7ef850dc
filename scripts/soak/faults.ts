import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { Chance } from "../../tools/chance";
import { ServiceProcess } from "../../tools/service-process";
import { bytesOfFrame, TEXT } from "../fuzz/frames";
import { bytesOf, handshake, requestTo } from "../fuzz/request";
import { type Callers, HEADERS, TOKEN } from "./callers";
import type { Disk } from "./disk";

const DROPPED = 200;
const MOST_RECOVERY_MS = 10_000;

/** Injects faults into the service, one after the other, while callers go on. */
export class Faults {
  readonly counts: Record<string, number> = {};
  readonly mistakes: string[] = [];

  constructor(
    private readonly variables: Record<string, string>,
    private readonly callers: Callers,
    private readonly disk: Disk,
    private readonly chance: Chance,
  ) {}

  async start(): Promise<void> {
    this.callers.service = await ServiceProcess.start(this.variables);
  }

  /** Injects a random fault, ends it, and waits until the service decides again. */
  async injectOne(): Promise<void> {
    const [name, fault] = this.chance.of<[string, () => Promise<void>]>([
      ["SIGKILL of every process", () => this.#kill()],
      ["SIGTERM and a new start", () => this.#stop()],
      [`${DROPPED} connections dropped in mid-request or mid-message`, () => this.#dropConnections()],
      ...(this.disk.isMounted
        ? ([
            ["a full disk", () => this.#fillDisk(false)],
            ["a full disk and a SIGKILL on it", () => this.#fillDisk(true)],
            ["a read-only data directory", () => this.#readOnly()],
          ] as [string, () => Promise<void>][])
        : []),
    ]);
    this.callers.isFaulty = true;
    await fault();
    await this.#recovers(name);
    // A request sent during the fault may be answered a little later.
    await sleep(1_500);
    this.callers.isFaulty = false;
    this.counts[name] = (this.counts[name] ?? 0) + 1;
  }

  async #kill(): Promise<void> {
    await this.#down((service) => service.killAll());
    await this.start();
  }

  async #stop(): Promise<void> {
    await this.#down(async (service) => {
      const code = await service.stop();
      if (code !== 0) this.mistakes.push(`npm start ended with ${code} after a SIGTERM`);
    });
    await this.start();
  }

  async #down(end: (service: ServiceProcess) => Promise<void>): Promise<void> {
    const { service } = this.callers;
    this.callers.service = undefined;
    if (service) await end(service);
  }

  /** Callers disconnect in the middle of their request or message, or before the answer. All sessions are dropped too. */
  async #dropConnections(): Promise<void> {
    const { hostname, port } = new URL(this.callers.service?.url ?? "");
    const body = { policy: "soak", subject: { user: "dropped", ip: "10.2.0.1" } };
    const request = bytesOf(requestTo("POST", "/v1/consume", body, TOKEN));
    const message = Buffer.from(JSON.stringify({ id: 1, requests: [{ op: "consume", ...body }] }));
    const frames = Buffer.concat([bytesOf(handshake(TOKEN)), bytesOfFrame({ opcode: TEXT, payload: message })]);
    await Promise.all(
      Array.from({ length: DROPPED }, async (_, i) => {
        const whole = i % 2 === 0 ? request : frames;
        const socket = connect({ host: hostname, port: Number(port) }).on("error", () => {});
        const length = this.chance.is(0.3) ? whole.length : 1 + this.chance.below(whole.length);
        const waitMs = this.chance.below(300);
        socket.write(whole.subarray(0, length));
        await sleep(waitMs);
        socket.destroy();
      }),
    );
    this.callers.dropSessions();
  }

  async #fillDisk(isKilled: boolean): Promise<void> {
    this.disk.fill();
    await sleep(1_000 + this.chance.below(2_000));
    if (isKilled) await this.#down((service) => service.killAll());
    this.disk.empty();
    if (isKilled) await this.start();
  }

  /** The service must refuse to start on a read-only directory, in plain words. */
  async #readOnly(): Promise<void> {
    await this.#down((service) => service.killAll());
    await this.disk.setWritable(false);
    const { code, output } = await ServiceProcess.failing(this.variables);
    if (code !== 1 || !output.includes("can't be used") || output.includes("    at "))
      this.mistakes.push(`on a read-only data directory npm start ended with ${code}: ${output.slice(-500)}`);
    await this.disk.setWritable(true);
    await this.start();
  }

  /** Waits until the service decides again, without any help. */
  async #recovers(name: string): Promise<void> {
    const body = JSON.stringify({ policy: "soak", subject: { user: `after-${this.chance.next()}`, ip: "10.3.0.1" } });
    for (const giveUpAtMs = Date.now() + MOST_RECOVERY_MS; Date.now() < giveUpAtMs; await sleep(100)) {
      const response = await this.callers.service
        ?.fetch("/v1/consume", { method: "POST", headers: HEADERS, body })
        .catch(() => undefined);
      if (response?.status === 200 || response?.status === 429) return;
    }
    this.mistakes.push(`no decision within ${MOST_RECOVERY_MS} ms after ${name}`);
  }
}

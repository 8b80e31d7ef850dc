import { expect, test } from "vitest";
import { readConfig } from "../../src/config/config";
import { Limiter } from "../../src/limiter/limiter";
import { Ledger } from "../../src/object/ledger";
import type { Call } from "../../src/object/protocol";
import { DenialCache } from "../../src/objects/denial-cache";
import { readConsume } from "../../src/request/read";
import { Chance } from "../../tools/chance";
import { Scheduler } from "../../tools/scheduler";
import { Disk } from "./disk";

const DEADLINE_MS = 1_000;

test.each([
  [0, DEADLINE_MS],
  [700, DEADLINE_MS],
  [999, DEADLINE_MS],
])(
  "waits for layers in shadow until the deadline: live layers after %d ms, answer after %d ms",
  async (liveMs, answeredMs) => {
    const scheduler = new Scheduler(new Chance(1));
    const config = readConfig({
      RATE_LIMIT_POLICIES: {
        trial: {
          layers: [
            { name: "caller", by: ["user"], limits: ["5/minute"] },
            { name: "ip", by: ["ip"], limits: ["5/minute"], mode: "shadow" },
          ],
        },
      },
      RATE_LIMIT_DEADLINE_MS: String(DEADLINE_MS),
    });
    const ledger = new Ledger(new Disk(() => false));
    const objectOf = (name: string) => ({
      decide: async (calls: readonly Call[]) => {
        if (name !== "user:u") return new Promise<never>(() => {});
        await scheduler.sleep(liveMs);
        return ledger.decide(calls, scheduler.nowMs);
      },
    });
    const objects = { getByName: objectOf };
    const limiter = new Limiter(config, objects, scheduler, new DenialCache(0, scheduler.now));
    const request = readConsume({ policy: "trial", subject: { user: "u", ip: "1.2.3.4" } }, {}, config);
    const sentAtMs = scheduler.nowMs;
    const decision = limiter
      .consume(request, () => {})
      .then(({ allowed, wouldDeny, limits }) => {
        return { allowed, wouldDeny, layers: limits.map(({ layer }) => layer), ms: scheduler.nowMs - sentAtMs };
      });
    await scheduler.run();
    expect(await decision).toEqual({ allowed: true, wouldDeny: false, layers: ["caller"], ms: answeredMs });
  },
);

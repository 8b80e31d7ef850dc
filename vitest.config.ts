import { availableParallelism } from "node:os";
import { cloudflareTest } from "@cloudflare/vitest-pool-workers";
import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";
import { buildConsole } from "./src/local/console";
import { POLICIES } from "./test/behaviour/policies";

// The files that `wrangler.toml` has the Worker serve.
await buildConsole();

/** The files that take longest start first: one that starts last runs alone, while other cores are idle. */
class LongestFirst extends BaseSequencer {
  static readonly files =
    /(simulation\/simulation|service\/start|client\/client|workers\/behaviour|workers\/shadow)\.test\.ts$/;

  override async sort(specifications: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(specifications);
    const isLong = ({ moduleId }: TestSpecification) => LongestFirst.files.test(moduleId);
    return [...sorted.filter(isLong), ...sorted.filter((specification) => !isLong(specification))];
  }
}

/** For a test that hangs. A slow machine must fail none. */
const TIMEOUTS = { testTimeout: 60_000, hookTimeout: 60_000 };

export default defineConfig({
  test: {
    // Tests of deadlines and of starts wait more than they work, so cores are shared.
    maxWorkers: Math.ceil(availableParallelism() * 1.5),
    sequence: { sequencer: LongestFirst },
    projects: [
      {
        // What imports nothing of Cloudflare runs where it is fastest.
        test: {
          name: "node",
          ...TIMEOUTS,
          include: [
            "test/{accuracy,client,config,console,core,counting,http,middleware,object,objects,request,simulation}/**/*.test.ts",
            "test/*.test.ts",
          ],
        },
      },
      {
        // The object and the edge, on the real runtime, where the clock can be moved and an object evicted.
        plugins: [
          cloudflareTest({
            wrangler: { configPath: "./wrangler.toml" },
            miniflare: {
              analyticsEngineDatasets: { LIMITER_ANALYTICS: { dataset: "limiter" } },
              bindings: {
                LIMITER_TOKENS: "caller-token, caller-token-2",
                LIMITER_ADMIN_TOKENS: "admin-token",
                RATE_LIMIT_INLINE: "1",
                // Tests that need another placement say so.
                LIMITER_PLACEMENT: "key",
                LIMITER_LOCATION_HINT: "",
                RATE_LIMIT_POLICIES: JSON.stringify(POLICIES),
              },
            },
          }),
        ],
        test: { name: "workers", ...TIMEOUTS, include: ["test/workers/**/*.test.ts"] },
      },
      {
        // `npm start` itself, from outside: processes, signals, a restart.
        test: { name: "service", ...TIMEOUTS, include: ["test/service/**/*.test.ts"] },
      },
    ],
  },
});

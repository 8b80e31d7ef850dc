import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { StartFailure } from "../src/local/failure";
import { ensurePython } from "../tools/python";
import { ServiceProcess } from "../tools/service-process";
import { temporaryFolder } from "../tools/temporary-folder";

/**
 * `npm run fuzz:schema` tests the real service against its own OpenAPI document with all checks of schemathesis, as
 * schemathesis.toml configures them. Further arguments go to schemathesis: `npm run fuzz:schema -- --seed 7`.
 */
const TOKEN = "fuzz-token";

async function main(): Promise<void> {
  // An environment of its own: schemathesis installs a pytest plugin that would affect our tests.
  const bin = ensurePython(["schemathesis==4.32.5"], ".venv-fuzz");
  const folder = temporaryFolder();
  const service = await ServiceProcess.start({
    LIMITER_ADMIN_TOKENS: TOKEN,
    LIMITER_DATA_DIR: join(folder, "data"),
    RATE_LIMIT_INLINE: "1",
    LIMITER_GATE: "hops=1",
    // Limits so high that most valid requests are admitted.
    RATE_LIMIT_CHAT_PER_MIN: "1000000",
    RATE_LIMIT_CHAT_PER_HOUR: "1000000",
    RATE_LIMIT_CHAT_IP_PER_MIN: "1000000",
  });
  const configuration = join(import.meta.dirname, "schemathesis.toml");
  const args = ["--config-file", configuration, "run", `${service.url}/openapi.json`, ...process.argv.slice(2)];
  const fuzzer = spawn(join(bin, "schemathesis"), args, {
    // schemathesis writes its examples and findings into its working directory.
    cwd: folder,
    stdio: "inherit",
    env: { ...process.env, TOKEN },
  });
  try {
    const [code] = (await once(fuzzer, "exit")) as [number | null];
    process.exitCode = code ?? 1;
  } finally {
    await service.stop();
  }
}

main().catch((error: unknown) => {
  console.error(error instanceof StartFailure ? error.message : error);
  process.exit(1);
});

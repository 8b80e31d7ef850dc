import { parseArgs } from "node:util";
import { planOf } from "./deploy/plan";
import { missingTokens } from "./deploy/tokens";
import { readWorkerConfig, wrangler } from "./deploy/wrangler";

/**
 * `npm run deploy [-- --env production] [--dry-run] [--secrets-file FILE]` says what it deploys and what that lacks, and
 * checks the configuration and that there are tokens. Then wrangler deploys. It asks nothing. With `--dry-run` it needs no
 * account, and deploys nothing.
 */
const USAGE = "Usage: npm run deploy -- [--env staging|production] [--dry-run] [--secrets-file FILE]";

interface Options {
  readonly env?: string | undefined;
  readonly "dry-run": boolean;
  readonly "secrets-file"?: string | undefined;
}

async function main({ env, "dry-run": isDryRun, "secrets-file": secretsFile }: Options): Promise<void> {
  const known = readWorkerConfig().definedEnvironments ?? [];
  if (env !== undefined && !known.includes(env))
    return fail(`wrangler.toml has no environment ${env}. It has ${known.join(", ")}.`);
  const { does, lacks, mistakes } = planOf(readWorkerConfig(env));
  console.log(does.join("\n"));
  if (lacks.length > 0) console.log(`\nIt works, and lacks:\n${listOf(lacks)}`);
  if (mistakes.length > 0) return fail(`\nNothing was deployed. Mistakes in wrangler.toml:\n${listOf(mistakes)}`);
  if (isDryRun) console.log("\nNot checked in a dry run: whether the tokens are there.");
  else {
    const missing = await missingTokens(env, secretsFile);
    if (missing !== undefined) return fail(`\nNothing was deployed. ${missing}`);
  }
  console.log();
  const options = [
    ...(isDryRun ? ["--dry-run"] : []),
    ...(secretsFile === undefined ? [] : ["--secrets-file", secretsFile]),
  ];
  const { code } = await wrangler(["deploy", ...options], env, "inherit");
  process.exitCode = code ?? 1;
  if (code === 0 && !isDryRun)
    console.log("\nNow look whether it works: EXACT_LIMITER_TOKEN=TOKEN npm run smoke -- --url URL");
}

function fail(message: string): void {
  console.error(message);
  process.exitCode = 1;
}

const listOf = (lines: readonly string[]) => lines.map((line) => `- ${line}`).join("\n");

function readOptions(): Options | undefined {
  try {
    return parseArgs({
      options: {
        env: { type: "string" },
        "dry-run": { type: "boolean", default: false },
        "secrets-file": { type: "string" },
      },
    }).values;
  } catch (error) {
    fail(`${(error as Error).message}\n${USAGE}`);
    return undefined;
  }
}

const options = readOptions();
if (options) await main(options);

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Command, CommanderError } from "commander";
import { ConfigError } from "../config/mistake";
import { addCheckConfig } from "./check-config";
import { CommandFailure, UsageError } from "./failures";
import { addKeys } from "./keys";
import { addSmoke } from "./smoke/smoke";
import { addStart } from "./start";
import { addToken } from "./token/token";

/** The same way from `src/cli` and from `dist/cli`. */
const { version } = JSON.parse(readFileSync(join(import.meta.dirname, "../../package.json"), "utf8")) as {
  version: string;
};

/** `npx exact-limiter`: the commands of the package. They end with 1 if they fail, and with 2 if they are called wrongly. */
const program = new Command("exact-limiter")
  .description("A rate limiter with exact sliding windows.")
  .version(version)
  .helpCommand(false)
  .showHelpAfterError()
  .exitOverride();

for (const add of [addStart, addCheckConfig, addToken, addKeys, addSmoke]) add(program);

try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = exitCodeOf(error);
}

function exitCodeOf(error: unknown): number {
  // Commander has printed it.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  if (error instanceof UsageError) {
    const command = program.commands.find((command) => command.name() === program.args[0]) ?? program;
    console.error(`error: ${error.message}\n\n${command.helpInformation()}`);
    return 2;
  }
  const isPlain = error instanceof CommandFailure || error instanceof ConfigError;
  console.error(isPlain ? error.message : error);
  return 1;
}

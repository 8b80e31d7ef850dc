import type { Command } from "commander";
import { ConfigError } from "../../config/mistake";
import { UsageError } from "../failures";
import { makeToken, type TokenWish } from "./make";

/** Time for callers to move to the new token, in the example of a rotation. */
const ROTATION_MS = 7 * 86_400_000;

export function addToken(program: Command): void {
  program
    .command("token")
    .description("makes a token, and prints it once, with the line that configures its digest")
    .requiredOption("--name <name>", "of its holder")
    .requiredOption("--role <role>", "caller, admin or metrics-only")
    .option("--policies <policies>", "those that it may ask, separated by commas", (text) => text.split(","))
    .option("--until <instant>", "when it ends, like 2030-01-01T00:00:00Z")
    .action(printToken);
}

function printToken(wish: TokenWish): void {
  const { token, line } = made(wish);
  const day = new Date(Date.now() + ROTATION_MS).toISOString().slice(0, "2030-01-01".length);
  console.log(`The token of ${wish.name}. It is shown this once. Give it to its holder, and write it down nowhere else:

  ${token}

Its line for LIMITER_TOKEN_DIGESTS, which does not show the token:

  ${line}

LIMITER_TOKEN_DIGESTS has a line for each token. Keep them in a file, and put all of them at once:

  npx wrangler secret put LIMITER_TOKEN_DIGESTS < tokens.txt

To rotate ${wish.name}, add this line, and give the line that it had until=${day}T00:00:00Z before its sha256. Both
tokens are in force until then, and nothing further needs to be put for the old one to end.`);
}

function made(wish: TokenWish): ReturnType<typeof makeToken> {
  try {
    return makeToken(wish);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new UsageError(error.mistakes.map(({ what }) => what).join("\n"));
  }
}

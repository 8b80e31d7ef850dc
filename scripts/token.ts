import { parseArgs } from "node:util";
import { ConfigError } from "../src/config/mistake";
import { makeToken, type TokenWish } from "./token/make";

/**
 * `npm run token -- --name chat-backend --role caller` makes a token, and prints it once, with the line that configures
 * its digest.
 */
const USAGE = `npm run token -- --name NAME --role caller|admin|metrics-only [--policies POLICY,POLICY] [--until INSTANT]

  npm run token -- --name chat-backend --role caller
  npm run token -- --name importer --role caller --policies upload,inline --until 2030-01-01T00:00:00Z
`;
/** Time for callers to move to the new token, in the example of a rotation. */
const ROTATION_MS = 7 * 86_400_000;

function readArguments(): TokenWish {
  const option = { type: "string" } as const;
  const { values } = parseArgs({ options: { name: option, role: option, policies: option, until: option } });
  const { name, role, policies, until } = values;
  if (name === undefined || role === undefined) throw new TypeError("--name and --role are missing.");
  return { name, role, policies: policies?.split(","), until };
}

try {
  const wish = readArguments();
  const { token, line } = makeToken(wish);
  const day = new Date(Date.now() + ROTATION_MS).toISOString().slice(0, "2030-01-01".length);
  console.log(`The token of ${wish.name}. It is shown this once. Give it to its holder, and write it down nowhere else:

  ${token}

Its line for LIMITER_TOKEN_DIGESTS, which does not show the token:

  ${line}

LIMITER_TOKEN_DIGESTS has a line for each token. Keep them in a file, and put all of them at once:

  npx wrangler secret put LIMITER_TOKEN_DIGESTS < tokens.txt

To rotate ${wish.name}, add this line, and give the line that it had until=${day}T00:00:00Z before its sha256. Both
tokens are in force until then, and nothing further needs to be put for the old one to end.`);
} catch (error) {
  if (!(error instanceof ConfigError || error instanceof TypeError)) throw error;
  const mistakes = error instanceof ConfigError ? error.mistakes.map(({ what }) => what) : [error.message];
  console.error(`${mistakes.join("\n")}\n\n${USAGE}`);
  process.exitCode = 1;
}

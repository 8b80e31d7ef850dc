import { readFileSync } from "node:fs";
import { parse } from "dotenv";
import { TOKEN_SECRETS } from "./plan";
import { wrangler } from "./wrangler";

/** Wrangler's words for a Worker that does not exist yet. */
const NO_SUCH_WORKER = /Worker "[^"]+".* not found/;

/** Why the tokens are not there, and what to do. Undefined: they are. */
export async function missingTokens(
  environment: string | undefined,
  secretsFile: string | undefined,
): Promise<string | undefined> {
  if (secretsFile !== undefined && namesIn(secretsFile).some(isToken)) return undefined;
  const { code, stdout, stderr } = await wrangler(["secret", "list", "--format", "json"], environment, "pipe");
  if (code !== 0 && !NO_SUCH_WORKER.test(stdout + stderr))
    return `The secrets can't be listed. Log in with "npx wrangler login", or set CLOUDFLARE_API_TOKEN:\n${stderr || stdout}`;
  if (code === 0 && namesOf(JSON.parse(stdout)).some(isToken)) return undefined;
  const option = environment === undefined ? "" : ` --env ${environment}`;
  return `There are no tokens, and without them every call is a 503. Put one kind at least, then deploy again:
${TOKEN_SECRETS.map((name) => `  npx wrangler secret put ${name}${option}`).join("\n")}`;
}

const isToken = (name: string) => TOKEN_SECRETS.includes(name);
const namesOf = (secrets: readonly { readonly name: string }[]) => secrets.map(({ name }) => name);

/** The names in a file of secrets, which wrangler reads as JSON or like `.env`. */
function namesIn(path: string): string[] {
  const text = readFileSync(path, "utf8");
  return Object.keys(text.trimStart().startsWith("{") ? JSON.parse(text) : parse(text));
}

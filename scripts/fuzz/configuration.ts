import { inspect } from "node:util";
import { readConfig, VARIABLE_NAMES } from "../../src/config/config";
import { ConfigError } from "../../src/config/mistake";
import { Chance } from "../../tools/chance";
import { mutatedJson, TEXTS } from "./hostile";

const SECRET = "s3cr3t";

const POLICIES = JSON.stringify({
  upload: {
    layers: [
      { name: "caller", by: ["user", "ip"], limits: ["10/minute", "2 per 5 seconds"] },
      { name: "org", by: ["org"], limits: ["100000 per 1 day"] },
    ],
  },
});

/** What somebody may have set a variable to, in an environment or in `wrangler.toml`. */
const VALUES: readonly unknown[] = [
  ...TEXTS,
  "5",
  "5.5",
  "-0",
  "1e3",
  " 7 ",
  "٣",
  "1_000",
  "allow",
  "deny",
  "key",
  "shards:4",
  "shards:0",
  "shards:99999",
  "weur",
  0,
  1,
  -1,
  0.5,
  2 ** 53,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  10n,
  true,
  false,
  null,
  undefined,
  [],
  [[]],
  {},
  Object.create(null),
  new Date(0),
  /x/,
  new Map(),
  Symbol("x"),
  () => 1,
];

/** Variables made of nothing but a seed and a number, most of them set to something that is rarely right. */
export function variablesOf(seed: number, number: number): Record<string, unknown> {
  const chance = new Chance(Math.imul(seed, 0x9e3779b1) ^ Math.imul(number + 1, 0xc2b2ae35));
  const variables: Record<string, unknown> = { LIMITER_TOKENS: SECRET };
  for (const name of VARIABLE_NAMES) if (chance.is(0.15)) variables[name] = chance.of(VALUES);
  if (chance.is(0.1)) variables.LIMITER_ADMIN_TOKENS = `${SECRET}, two ${SECRET}`;
  if (chance.is(0.8)) variables.RATE_LIMIT_POLICIES = policiesOf(chance);
  return variables;
}

/** A table of policies, as JSON or as it is when it still can be read. */
function policiesOf(chance: Chance): unknown {
  const text = mutatedJson(POLICIES, chance);
  if (chance.is(0.5)) return text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** What is wrong with how these variables are read: a refusal lists mistakes, and there is no other end. */
export function mistakesInReading(variables: Readonly<Record<string, unknown>>): string[] {
  try {
    const { policies } = readConfig(variables);
    return policies.has("chat") ? [] : ["a configuration without the policy chat"];
  } catch (error) {
    if (!(error instanceof ConfigError)) return [`not a ConfigError: ${inspect(error)}`];
    const { mistakes, message } = error;
    const isTold = mistakes.every(
      ({ where, what }) => VARIABLE_NAMES.includes(where.split("/")[0] ?? "") && what !== "",
    );
    return [
      ...(mistakes.length > 0 && isTold ? [] : [`a refusal that does not say what is wrong: ${message}`]),
      ...(message.includes(SECRET) ? ["a refusal that tells a token"] : []),
    ];
  }
}

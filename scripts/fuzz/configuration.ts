import { inspect } from "node:util";
import fc from "fast-check";
import { readConfig, VARIABLE_NAMES } from "../../src/config/config";
import { ConfigError } from "../../src/config/mistake";
import { TEXTS } from "./hostile";

const SECRET = "s3cr3t";

/** Values of a variable in the environment or in `wrangler.toml`, valid or not. */
const VALUE = fc.oneof(
  fc.constantFrom(...TEXTS, "5", "5.5", "-0", "1e3", " 7 ", "٣", "1_000", "allow", "deny", "weur"),
  fc.constantFrom("key", "shards:4", "shards:0", "shards:99999"),
  fc.constantFrom(0, 1, -1, 2 ** 53, Symbol("x"), () => 1, /x/),
  fc.anything({ withBigInt: true, withDate: true, withMap: true, withNullPrototype: true }),
);

const SELDOM = fc.oneof({ weight: 25, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: VALUE });

const rarely = <T>(wrong: fc.Arbitrary<T>, ...right: T[]) =>
  fc.oneof({ weight: 30, arbitrary: fc.constantFrom(...right) }, { weight: 1, arbitrary: wrong });
const text = fc.oneof(fc.constantFrom(...TEXTS), fc.string({ unit: "binary" }));
const wrong: fc.Arbitrary<unknown> = fc.oneof(fc.jsonValue({ maxDepth: 3 }), text, fc.double());

const limit = rarely<unknown>(wrong, "10/minute", "2 per 5 seconds", "100000 per 1 day", "2 concurrent per hour");
const LAYER = fc.record(
  {
    name: rarely<unknown>(wrong, "caller", "ip", "org"),
    by: rarely<unknown>(fc.oneof(wrong, fc.array(wrong)), ["user", "ip"], ["org"]),
    limits: fc.oneof(
      { weight: 9, arbitrary: fc.uniqueArray(limit, { minLength: 1, maxLength: 3 }) },
      { weight: 1, arbitrary: wrong },
    ),
    mode: rarely<unknown>(wrong, "shadow", "live"),
  },
  { requiredKeys: ["name", "by", "limits"] },
);
const TABLE = fc.dictionary(
  rarely(fc.oneof(text, fc.constant("chat")), "upload", "jobs"),
  fc.oneof(
    {
      weight: 9,
      arbitrary: fc.record({
        layers: fc.uniqueArray(LAYER, { selector: ({ name }) => name, minLength: 1, maxLength: 3 }),
      }),
    },
    { weight: 1, arbitrary: fc.record({ layers: fc.array(LAYER), more: wrong }) },
  ),
  { maxKeys: 2 },
);
/** Policies: as a table, as JSON, and as JSON that is cut short or has something inserted. */
const POLICIES = fc.oneof(
  { weight: 4, arbitrary: TABLE },
  { weight: 4, arbitrary: TABLE.map((table) => JSON.stringify(table)) },
  wrong,
  fc
    .tuple(TABLE, fc.nat(), fc.constantFrom("}", ",", "\u0000", "{}", '"__proto__":1,', "1e999"), fc.boolean())
    .map(([table, position, inserted, isCut]) => {
      const json = JSON.stringify(table);
      const index = position % (json.length + 1);
      return json.slice(0, index) + (isCut ? "" : inserted + json.slice(index));
    }),
);

/** Variables. Most are set to a value that is rarely valid. */
export const VARIABLES: fc.Arbitrary<Record<string, unknown>> = fc
  .tuple(
    fc.record(Object.fromEntries(VARIABLE_NAMES.map((name) => [name, SELDOM])), { requiredKeys: [] }),
    fc.option(POLICIES, { freq: 4, nil: undefined }),
    fc.oneof({ weight: 9, arbitrary: fc.constant(undefined) }, fc.constant(`${SECRET}, two ${SECRET}`)),
  )
  .map(([variables, policies, admins]) => ({
    ...variables,
    LIMITER_TOKENS: SECRET,
    ...(policies !== undefined && { RATE_LIMIT_POLICIES: policies }),
    ...(admins && { LIMITER_ADMIN_TOKENS: admins }),
  }));

/** The mistakes in how these variables are read. They are valid, or the error lists their mistakes: nothing else is right. */
export function mistakesInReading(variables: Readonly<Record<string, unknown>>): string[] {
  try {
    const { policies } = readConfig(variables);
    return policies.has("chat") ? [] : ["the configuration has no policy chat"];
  } catch (error) {
    if (!(error instanceof ConfigError)) return [`an error that is not a ConfigError: ${inspect(error)}`];
    const { mistakes, message } = error;
    const isClear = mistakes.every(
      ({ where, what }) => VARIABLE_NAMES.includes(where.split("/")[0] ?? "") && what !== "",
    );
    return [
      ...(mistakes.length > 0 && isClear ? [] : [`an error that does not say what is wrong: ${message}`]),
      ...(message.includes(SECRET) ? ["an error that leaks a token"] : []),
    ];
  }
}

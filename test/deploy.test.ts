import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { resolve } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { planOf } from "../scripts/deploy/plan";
import { readWorkerConfig, type WorkerConfig } from "../scripts/deploy/wrangler";
import { temporaryFolder } from "../tools/temporary-folder";

const PROJECT = resolve(import.meta.dirname, "..");
const ENVIRONMENTS = [undefined, "staging", "production"] as const;

/** What wrangler does not inherit, of all that a Worker like this one may use. */
const NOT_INHERITED = [
  "durable_objects",
  "analytics_engine_datasets",
  "ratelimits",
  "services",
  "tail_consumers",
  "version_metadata",
];

/** The names of everything that an environment binds, and the classes of its objects. */
function bindingsOf(environment?: string): string[] {
  const config: Readonly<Record<string, unknown>> = { ...readWorkerConfig(environment) };
  const names = NOT_INHERITED.flatMap((kind) => {
    const text = JSON.stringify(config[kind] ?? []);
    return [...text.matchAll(/"(?:name|binding|class_name|service)":"(\w+)"/g)].map(([, name]) => `${kind} ${name}`);
  });
  return [...names, ...Object.keys(readWorkerConfig(environment).vars)].sort();
}

const worker = (more: Partial<WorkerConfig> = {}): WorkerConfig => ({ ...readWorkerConfig("staging"), ...more });

test("each environment binds the same objects and sets the same variables", () => {
  expect(bindingsOf()).toEqual(expect.arrayContaining(["durable_objects LIMITER_OBJECTS", "RATE_LIMIT_CHAT_PER_MIN"]));
  for (const environment of ENVIRONMENTS) expect(bindingsOf(environment)).toEqual(bindingsOf());
});

test("each environment is a Worker of its own, and has objects of its own", () => {
  const configs = ENVIRONMENTS.map(readWorkerConfig);
  expect(configs.map(({ name }) => name)).toEqual([
    "exact-limiter",
    "exact-limiter-staging",
    "exact-limiter-production",
  ]);
  // A script's name would bind the objects of another Worker.
  for (const { durable_objects } of configs)
    expect(durable_objects.bindings.filter(({ script_name }) => script_name !== undefined)).toEqual([]);
});

test("production is reached by its domain alone, and its requests are limited", () => {
  expect(readWorkerConfig("production")).toMatchObject({
    routes: [{ custom_domain: true }],
    workers_dev: false,
    preview_urls: false,
    limits: { cpu_ms: expect.any(Number), subrequests: expect.any(Number) },
  });
});

test("a plan of the first deploy has no mistake, and says what a deploy without a domain lacks", () => {
  const { does, lacks, mistakes } = planOf(readWorkerConfig());
  expect(does[0]).toBe("Deploys the Worker exact-limiter to exact-limiter.<your subdomain>.workers.dev.");
  expect(lacks).toEqual([expect.stringContaining("No domain: "), expect.stringContaining("No [limits]: ")]);
  expect(mistakes).toEqual([]);
});

test("a plan says what a deploy without a location hint lacks", () => {
  const { LIMITER_LOCATION_HINT: _, ...vars } = readWorkerConfig().vars;
  expect(planOf({ ...readWorkerConfig(), vars }).lacks).toContainEqual(
    expect.stringContaining("No LIMITER_LOCATION_HINT: "),
  );
});

test("a plan of staging has no mistake", () => {
  expect(planOf(readWorkerConfig("staging")).mistakes).toEqual([]);
});

test("a plan refuses the domain of the example, and takes another", () => {
  const { mistakes } = planOf(readWorkerConfig("production"));
  expect(mistakes).toEqual(["limiter.example.com is an example. Write your own domain into wrangler.toml."]);
  const routes = [{ pattern: "limits.our.dev", custom_domain: true }];
  const own = planOf({ ...readWorkerConfig("production"), routes });
  expect([own.does[0], own.mistakes]).toEqual(["Deploys the Worker exact-limiter-production to limits.our.dev.", []]);
});

test.each<[what: string, Partial<WorkerConfig>, RegExp]>([
  [
    "an unknown variable",
    { vars: { RATE_LIMIT_CHAT_PER_MINUTE: "5" } },
    /^Unknown variable RATE_LIMIT_CHAT_PER_MINUTE\. Did you mean/,
  ],
  ["a wrong value", { vars: { RATE_LIMIT_CHAT_PER_MIN: "0" } }, /^RATE_LIMIT_CHAT_PER_MIN: must be a whole number/],
  [
    "a token among the variables",
    { vars: { LIMITER_TOKENS: "secret" } },
    /^LIMITER_TOKENS is in wrangler\.toml, where everybody reads it\./,
  ],
  // Bytes count, not characters.
  [
    "a variable of over 5 KB",
    { vars: { GREETING: "ö".repeat(2_561) } },
    /^GREETING has 5122 bytes\. Cloudflare takes 5120\./,
  ],
  [
    "an environment without objects",
    { durable_objects: { bindings: [] } },
    /^LIMITER_OBJECTS is not bound\. An environment inherits no bindings/,
  ],
])("a plan refuses %s", (_, more, mistake) => {
  expect(planOf(worker(more)).mistakes).toEqual([expect.stringMatching(mistake)]);
});

test("a plan takes a variable of 5 KB, and says that it is nearly too large, tables included", () => {
  const { lacks, mistakes } = planOf(worker({ vars: { TABLE: { text: "x".repeat(5_120 - 11) } } }));
  expect(mistakes).toEqual([]);
  expect(lacks).toContain("TABLE has 5120 of the 5120 bytes that Cloudflare takes.");
});

test("a plan says which binding is missing, and that a location hint is outside of the jurisdiction", () => {
  const bindings = readWorkerConfig().durable_objects.bindings.filter(({ name }) => !/_HUBS$|_AUDIT$/.test(name));
  const vars = { LIMITER_JURISDICTION: "eu", LIMITER_LOCATION_HINT: "enam" };
  const { lacks } = planOf(worker({ vars, durable_objects: { bindings } }));
  expect(lacks).toContain("No LIMITER_HUBS: there are no sessions: clients use HTTP.");
  expect(lacks).toContain(
    "No LIMITER_AUDIT: what admins order leaves no record: /v1/audit and /v1/overrides are a 404.",
  );
  expect(lacks).toContain("LIMITER_LOCATION_HINT=enam is outside of LIMITER_JURISDICTION=eu.");
  const within = planOf(worker({ vars: { ...vars, LIMITER_LOCATION_HINT: "weur" } }));
  expect(within.lacks.filter((line) => line.includes("LOCATION_HINT"))).toEqual([]);
});

/** Runs `npm run deploy`, with no account unless the environment names one. */
async function deploy(args: readonly string[], environment: Record<string, string> = {}) {
  const { CLOUDFLARE_API_TOKEN: _, CLOUDFLARE_ACCOUNT_ID: __, ...outside } = process.env;
  const child = spawn(process.execPath, ["--import", "tsx", "scripts/deploy.ts", ...args], {
    cwd: PROJECT,
    // A home of its own: nobody is logged in.
    env: { ...outside, HOME: temporaryFolder(), XDG_CONFIG_HOME: "", WRANGLER_SEND_METRICS: "false", ...environment },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (output += chunk));
  const [code] = await once(child, "close");
  return { code, output };
}

/** Answers wrangler as Cloudflare's API does, about the secrets of one Worker. */
async function startApi(
  secrets: readonly string[] | undefined,
): Promise<{ asked: string[]; variables: Record<string, string> }> {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(`${request.method} ${request.url?.split("?")[0]}`);
    const isFound = secrets !== undefined && request.url?.endsWith("/secrets") === true;
    response.writeHead(isFound ? 200 : 404, { "Content-Type": "application/json" });
    const result = isFound ? secrets.map((name) => ({ name, type: "secret_text" })) : null;
    const errors = isFound ? [] : [{ code: 10007, message: "This Worker does not exist on your account." }];
    response.end(JSON.stringify({ success: isFound, errors, messages: [], result }));
  }).listen(0, "127.0.0.1");
  onTestFinished(() => void server.close());
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const variables = {
    CLOUDFLARE_API_TOKEN: "token",
    CLOUDFLARE_ACCOUNT_ID: "account",
    CLOUDFLARE_API_BASE_URL: `http://127.0.0.1:${port}`,
  };
  return { asked, variables };
}

test("npm run deploy -- --dry-run needs no account, and has wrangler bundle the environment", async () => {
  const { code, output } = await deploy(["--env", "staging", "--dry-run"]);
  expect([code, output]).toEqual([0, expect.stringContaining("--dry-run: exiting now.")]);
  expect(output).toContain("Deploys the Worker exact-limiter-staging to");
  expect(output).not.toContain("WARNING");
});

test("npm run deploy deploys nothing for an environment that does not exist", async () => {
  expect(await deploy(["--env", "prod"])).toEqual({
    code: 1,
    output: "wrangler.toml has no environment prod. It has staging, production.\n",
  });
});

test("npm run deploy deploys nothing without an account, and says what to do", async () => {
  const { code, output } = await deploy([]);
  expect([code, output]).toEqual([1, expect.stringContaining("Nothing was deployed. The secrets can't be listed.")]);
  expect(output).toContain("npx wrangler login");
});

test.each([
  ["does not exist", undefined],
  ["has other secrets", ["OTHER"]],
])("npm run deploy asks for tokens first if the Worker %s", async (_, secrets) => {
  const { asked, variables } = await startApi(secrets);
  const { code, output } = await deploy(["--env", "staging"], variables);
  expect([code, output]).toEqual([1, expect.stringContaining("Nothing was deployed. There are no tokens")]);
  expect(output).toContain("npx wrangler secret put LIMITER_TOKENS --env staging\n");
  expect(asked).toEqual(["GET /accounts/account/workers/scripts/exact-limiter-staging/secrets"]);
});

test("npm run deploy goes on to wrangler if the Worker has tokens, and fails as wrangler does", async () => {
  const { asked, variables } = await startApi(["LIMITER_ADMIN_TOKENS"]);
  const { code, output } = await deploy([], variables);
  expect(output).not.toContain("Nothing was deployed.");
  expect(asked.length).toBeGreaterThan(1);
  expect(code).not.toBe(0);
});

import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Newcomer, PROJECT, SECRET, type StartedService, shellLines, succeeded } from "./newcomer";

interface Manifest {
  readonly version: string;
  readonly exports: Readonly<Record<string, unknown>>;
  readonly files: readonly string[];
  readonly devDependencies: Readonly<Record<string, string>>;
  readonly peerDependencies: Readonly<Record<string, string>>;
  readonly peerDependenciesMeta: Readonly<Record<string, { readonly optional?: boolean }>>;
}

const manifest: Manifest = JSON.parse(readFileSync(join(PROJECT, "package.json"), "utf8"));
const entries = Object.keys(manifest.exports).map((entry) => entry.replace(/^\./, "exact-limiter"));
const typescript = shellLines("README.md", "### TypeScript");
const [installRuntime = "", startLine = ""] = shellLines("README.md", "## The command");

const newcomer = new Newcomer();
const { app } = newcomer;
afterAll(() => newcomer.remove());

/** Runs `npx exact-limiter`. */
const command = (args: string, environment?: Record<string, string>) =>
  newcomer.run(`npx exact-limiter ${args}`, environment);

/** All files of a folder. */
function filesIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((path) =>
    statSync(join(folder, path)).isFile(),
  );
}

/** The packages that are installed beside the application. */
function installed(): string[] {
  const { packages } = JSON.parse(readFileSync(join(app, "package-lock.json"), "utf8")) as { packages: object };
  return Object.keys(packages).filter((path) => path !== "");
}

describe("the package, installed by the lines of README.md", () => {
  beforeAll(async () => succeeded(await newcomer.run(typescript.join("\n"))));
  const own = join(app, "node_modules/exact-limiter");

  test("brings no other package", () => {
    expect(installed()).toEqual(["node_modules/exact-limiter"]);
  });

  test("holds the built files, and no source, test, map or document", () => {
    const files = filesIn(own);
    const isNamed = (path: string) => manifest.files.some((name) => path === name || path.startsWith(`${name}/`));
    expect(files.filter((path) => !isNamed(path)).sort()).toEqual(["LICENSE", "README.md", "package.json"]);
    expect(files.filter((path) => /(\.map|\.test\.\w+|(?<!\.d)\.ts|\.md)$/.test(path))).toEqual(["README.md"]);
    expect(statSync(join(app, `exact-limiter-${manifest.version}.tgz`)).size).toBeLessThan(1_000_000);
  });

  test("holds no token of the checkout that packed it", () => {
    expect(filesIn(own).filter((path) => readFileSync(join(own, path), "utf8").includes(SECRET))).toEqual([]);
  });

  test("names each package that its libraries import as an optional peer", () => {
    const bundled = /^dist\/(cli|console|service)\//;
    const libraries = filesIn(own).filter((path) => /\.(js|d\.ts)$/.test(path) && !bundled.test(path));
    const imported = libraries.flatMap((path) =>
      [...readFileSync(join(own, path), "utf8").matchAll(/(?:from|import\()\s*"([^."][^"]*)"/g)].map(
        ([, name = ""]) => name,
      ),
    );
    const packages = imported
      .filter((name) => !name.startsWith("node:"))
      .map((name) => /^(@[^/]+\/)?[^/]+/.exec(name)?.[0] ?? "");
    expect(packages.length).toBeGreaterThan(0);
    const isOptional = (name: string) => manifest.peerDependenciesMeta[name]?.optional === true;
    expect(packages.filter((name) => !isOptional(name))).toEqual([]);
    expect(Object.keys(manifest.peerDependencies).filter((name) => !isOptional(name))).toEqual([]);
  });

  test("has a client that can be imported", async () => {
    writeFileSync(
      join(app, "client.mjs"),
      'import { Limiter } from "exact-limiter/client"; console.log(typeof Limiter);',
    );
    expect(succeeded(await newcomer.run("node client.mjs"))).toBe("function\n");
  });

  test("says how to install the runtime when it starts without, by the line of README.md", async () => {
    expect(await command("start", { PORT: "0" })).toEqual({
      code: 1,
      stdout: "",
      stderr: `The runtime is not installed. Install it beside exact-limiter: ${installRuntime}\n`,
    });
    expect(installRuntime.endsWith(` miniflare@${manifest.devDependencies.miniflare}`)).toBe(true);
  });

  test("makes tokens and has its version and help without the runtime", async () => {
    expect(succeeded(await command("token --name chat --role caller"))).toMatch(/ chat caller sha256:[0-9a-f]{64}\n/);
    expect(succeeded(await command("--version"))).toBe(`${manifest.version}\n`);
    expect(succeeded(await command("--help"))).toContain("Usage: exact-limiter [options] [command]");
    expect(await command("begin")).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("unknown command 'begin'"),
    });
  });
});

describe("npx exact-limiter start", () => {
  const environment = { PORT: "0" };
  let service: StartedService;
  beforeAll(async () => {
    succeeded(await newcomer.run(installRuntime));
    service = await newcomer.start(startLine, environment);
  });

  test("serves in the current directory, and prints a curl command that works", async () => {
    const [curl = ""] = /curl .*/.exec(service.output) ?? [];
    expect(succeeded(await newcomer.run(`${curl} -s`))).toContain('"allowed":true');
    expect(service.output).toContain(`keeps its counters in ${app}/.data`);
    expect(readFileSync(join(app, ".dev.vars"), "utf8")).toMatch(
      /^LIMITER_TOKENS=\S{32}\nLIMITER_ADMIN_TOKENS=\S{32}\n$/,
    );
    const page = await fetch(`${service.url}/console`);
    expect([page.status, await page.text()]).toEqual([200, expect.stringContaining("<title>")]);
  });

  test("is what the other commands talk to", async () => {
    const here = { PORT: new URL(service.url).port };
    expect(succeeded(await command("key user:u_1", here))).toContain("  5 per 60 s: 1 used, 4 left");
    const banned = await command("ban user:u_1 --for 1h --reason 'sends spam'", here);
    expect(succeeded(banned)).toMatch(/^user:u_1 is banned until .*Z: sends spam\n$/);
    expect(succeeded(await command("key user:u_1 --json", here))).toContain('"reason":"sends spam"');
    expect(succeeded(await command("lift user:u_1", here))).toBe("user:u_1 has no override.\n");
    const report = succeeded(await command("smoke --seconds 1", here));
    expect(report).toMatch(/^\| (ok|slow) \| a hot key, 1 s \|/m);
    expect(report).not.toContain("BROKEN");
  });

  test("serves the configuration that check-config prints", async () => {
    const more = { RATE_LIMIT_CHAT_PER_MIN: "7", RATE_LIMIT_CHAT_PER_MINUTE: "8" };
    expect(await command("check-config", more)).toEqual({
      code: 0,
      stdout: `chat / caller, by user, else ip: 7 per 60 s, 60 per 3600 s
chat / ip, by ip: 30 per 60 s
All keys share one object.
`,
      stderr: "Unknown variable RATE_LIMIT_CHAT_PER_MINUTE. Did you mean RATE_LIMIT_CHAT_PER_MIN?\n",
    });
    const wrong = await command("check-config", { RATE_LIMIT_CHAT_PER_MIN: "0" });
    expect([wrong.code, wrong.stderr]).toEqual([1, expect.stringContaining("  RATE_LIMIT_CHAT_PER_MIN: must be")]);
  });

  test.each([
    ["SIGTERM to npx", () => service.stop("SIGTERM")],
    ["Ctrl-C", () => service.interrupt()],
  ])("ends on %s, and has its counters when it starts again", async (_, stop) => {
    await stop();
    await expect(fetch(`${service.url}/healthz`)).rejects.toThrow();
    service = await newcomer.start(startLine, environment);
    const here = { PORT: new URL(service.url).port };
    expect(succeeded(await command("key user:u_1", here))).toContain("  60 per 3600 s: 1 used, 59 left");
  });

  afterAll(() => service.stop("SIGTERM"));
});

describe("with the peers of the package", () => {
  beforeAll(async () => {
    succeeded(await newcomer.run(shellLines("docs/typescript-client.md", "## In tests").join("\n")));
    const peers = Object.keys(manifest.peerDependencies).filter(
      (name) => !installed().includes(`node_modules/${name}`),
    );
    const versions = peers.map((name) => `${name}@${manifest.devDependencies[name] ?? "latest"}`);
    succeeded(await newcomer.run(`npm install --save-dev ${versions.join(" ")}`));
  });

  test("every entry can be imported", async () => {
    // Outside a test run Vitest refuses to be imported.
    const imported = entries.filter((entry) => entry !== "exact-limiter/testing");
    writeFileSync(
      join(app, "entries.mjs"),
      imported
        .map(
          (entry) => `await import("${entry}");
`,
        )
        .join(""),
    );
    succeeded(await newcomer.run("node entries.mjs"));
  });

  test.each([
    ["node16", "node16"],
    ["esnext", "bundler"],
  ])("every entry has types with module %s and resolution %s", async (module, resolution) => {
    const lines = entries.map((entry, i) => `import * as entry${i} from "${entry}";`);
    const uses = `export const used = [${entries.map((_, i) => `entry${i}`).join(", ")}];
import { Limiter } from "exact-limiter/client";
const limiter = new Limiter({ url: "http://127.0.0.1:8787", token: "t" });
export const { allowed }: { allowed: boolean } = await limiter.consume({ policy: "chat", subject: { user: "u_1" } });
// @ts-expect-error a cost is no text
limiter.consume({ policy: "chat", subject: { user: "u_1" }, cost: "1" });`;
    writeFileSync(join(app, "types.mts"), [...lines, uses].join("\n"));
    const tsc = resolve(PROJECT, "node_modules/typescript/bin/tsc");
    const options = `--noEmit --strict --target es2022 --lib es2022,dom --module ${module} --moduleResolution ${resolution}`;
    expect(await newcomer.run(`${tsc} ${options} --skipLibCheck types.mts`)).toMatchObject({
      code: 0,
      stdout: "",
    });
  });

  test("Vitest's kit starts the limiter of the package, or of EXACT_LIMITER_COMMAND", async () => {
    writeFileSync(
      join(app, "chat.test.mjs"),
      `import { expect } from "vitest";
import { test } from "exact-limiter/testing";
test("the sixth waits a minute", async ({ limiter }) => {
  const request = { policy: "chat", subject: { user: "u_1", ip: "203.0.113.7" } };
  for (let i = 0; i < 5; i++) expect((await limiter.client.consume(request)).allowed).toBe(true);
  expect((await limiter.client.consume(request)).retryAfterSeconds).toBe(60);
  await limiter.advance({ seconds: 60 });
  expect((await limiter.client.consume(request)).allowed).toBe(true);
});
`,
    );
    const own = await newcomer.run("npx vitest run");
    expect([own.code, own.stdout]).toEqual([0, expect.stringContaining("1 passed")]);
    const named = { EXACT_LIMITER_COMMAND: "npx exact-limiter start --test-clock" };
    const other = await newcomer.run("npx vitest run", named);
    expect([other.code, other.stdout]).toEqual([0, expect.stringContaining("1 passed")]);
  });
});

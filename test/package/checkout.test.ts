import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Newcomer, PROJECT, shellLines, succeeded } from "./newcomer";

const { version } = JSON.parse(readFileSync(join(PROJECT, "package.json"), "utf8")) as { version: string };
const newcomer = new Newcomer();
const { app } = newcomer;
afterAll(() => newcomer.remove());

describe("a checkout that is installed as a folder", () => {
  beforeAll(async () => succeeded(await newcomer.run("npm install ../exact-limiter")));

  test("has the client and the command", async () => {
    writeFileSync(
      join(app, "client.mjs"),
      'import { Limiter } from "exact-limiter/client"; console.log(typeof Limiter);',
    );
    const printed = await newcomer.run("node client.mjs; npx exact-limiter --version");
    expect(succeeded(printed)).toBe(`function\n${version}\n`);
  });

  test("starts the limiter of the Python client's tests, which is installed by the line of README.md", async () => {
    const program = `import exact_limiter.fastapi
from exact_limiter.testing import LimiterService
with LimiterService.start() as limiter, limiter.client() as client:
    print(client.consume("chat", {"user": "u_1", "ip": "203.0.113.7"}).allowed)
`;
    writeFileSync(join(app, "program.py"), program);
    const lines = shellLines("README.md", "### FastAPI").map((line) => `${line} >pip.log`);
    const printed = await newcomer.run(
      ["python3 -m venv .venv", ". .venv/bin/activate", ...lines, "python program.py"].join("\n"),
      { EXACT_LIMITER_COMMAND: "npx exact-limiter start --test-clock" },
    );
    expect(succeeded(printed)).toBe("True\n");
  });
});

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Newcomer, PROJECT, shellLines, succeeded } from "../package/newcomer";
import { Container } from "./container";
import { Image, install } from "./image";
import { type Asked, consume, keysOf, Load, POLICIES, storedIds } from "./load";
import { Machine } from "./machine";
import type { Root } from "./root";

const GUIDE = "docs/self-host.md";
const TOKEN = "token-of-the-tests";
/** The lines of a section of the guide, as root runs them: without those for Docker and systemd, and the name of a backup. */
function guideLines(heading: string): string[] {
  const lines = shellLines(GUIDE, heading).filter((line) => !/ systemctl |^docker |^npm ci$|^BACKUP=/.test(line));
  return lines.map((line) => line.replace(/^sudo /, ""));
}

const newcomer = new Newcomer();
const folder = mkdtempSync(join(tmpdir(), "limiter-self-host-"));
let image: Image;

/** Docker maps any port of the machine to that of the image. Here both are the machine's, so the image's may be taken. */
const variables = (more: Record<string, string> = {}) => ({ PORT: "0", ...more });
const newVolume = (name: string) => image.newVolume(join(folder, name));

beforeAll(async () => {
  succeeded(await newcomer.run(guideLines("## Build").join("\n"), {}, newcomer.checkout));
  image = await Image.build(join(newcomer.checkout, "deploy"));
});

afterAll(() => {
  image?.root.remove();
  newcomer.remove();
  rmSync(folder, { recursive: true, force: true });
});

describe("the image", () => {
  test("has the runtime that the service is tested with", () => {
    const { devDependencies } = JSON.parse(readFileSync(join(PROJECT, "package.json"), "utf8"));
    const installed = join(image.root.path, "opt/exact-limiter/node_modules/miniflare/package.json");
    expect(JSON.parse(readFileSync(installed, "utf8")).version).toBe(devDependencies.miniflare);
    expect(image.port).toBe(image.environment.PORT);
  });

  test("serves as a user without rights, denies the sixth request, is healthy, ends on SIGTERM, and keeps all in its volume", async () => {
    const volume = newVolume("volume");
    const first = await Container.start(image, volume, variables());
    const status = readFileSync(`/proc/${first.pid}/status`, "utf8");
    expect(status).toMatch(/^Uid:\t1000\t1000\t1000\t1000$/m);
    expect(status).toMatch(/^NSpid:\t\d+\t1$/m);
    expect(await first.health()).toBe(0);

    // From outside of the container: on an address that is not the loopback's.
    const address = Object.values(networkInterfaces())
      .flatMap((addresses) => addresses ?? [])
      .find(({ family, internal }) => family === "IPv4" && !internal)?.address;
    const curl = /curl .*/.exec(first.output)?.[0].replace(/\/\/[^:]+:/, `//${address ?? "127.0.0.1"}:`) ?? "";
    const statuses = Array.from({ length: 6 }, () =>
      execFileSync("sh", ["-c", `${curl} -s -o /dev/null -w '%{http_code}'`], { encoding: "utf8" }),
    );
    expect(statuses).toEqual(["200", "200", "200", "200", "200", "429"]);
    expect(await first.stop()).toBe(0);
    expect(await first.health()).toBe(1);

    const second = await Container.start(image, volume, variables());
    const again = /curl .*/.exec(second.output)?.[0] ?? "";
    // With the token that the first one made.
    expect(/Bearer \S+/.exec(again)?.[0]).toBe(/Bearer \S+/.exec(curl)?.[0]);
    expect(execFileSync("sh", ["-c", `${again} -s`], { encoding: "utf8" })).toContain("429 Too Many Requests");
    expect(await second.stop()).toBe(0);
    expect(statSync(join(volume, ".dev.vars")).mode & 0o777).toBe(0o600);
  });
});

describe.each(["shards:1", "key"])("a backup under load, with placement %s", (placement) => {
  const environment = variables({
    LIMITER_TOKENS: TOKEN,
    LIMITER_ADMIN_TOKENS: TOKEN,
    LIMITER_PLACEMENT: placement,
    RATE_LIMIT_POLICIES: POLICIES,
    // Other work of this machine may keep the disk busy.
    RATE_LIMIT_DEADLINE_MS: "10000",
  });
  const name = placement.replace(":", "-");
  const backups = join(folder, `backups-${name}`);
  const sent: Asked[] = [];
  let volume: string;
  let container: Container;

  /** Runs lines on the machine of the container, where the guide has them run. */
  const onMachine = (lines: readonly string[], data = volume) =>
    image.root.run(["sh", "-ec", lines.join("\n")], {
      folder: "/checkout",
      environment: { BACKUP: "/var/backups/restored" },
      binds: {
        "/checkout": newcomer.checkout,
        "/var/lib/exact-limiter": data,
        "/var/backups": backups,
      },
    });
  const backUp = (target: string, data?: string) =>
    onMachine([`sh deploy/backup.sh /var/lib/exact-limiter /var/backups/${target}`], data);

  async function underLoad(work: (load: Load) => Promise<void>): Promise<void> {
    const load = new Load(`http://127.0.0.1:${container.port}`, TOKEN);
    await load.more(100);
    await work(load);
    await load.end();
    expect(load.others).toEqual([]);
    sent.push(...load.sent);
  }

  beforeAll(async () => {
    mkdirSync(backups);
    volume = newVolume(name);
    container = await Container.start(image, volume, environment);
  });

  test("disturbs no decision, and leaves the files to the service", async () => {
    await underLoad(async () => {
      for (const target of ["first", "second", "third"]) expect(await backUp(target)).toEqual({ code: 0, output: "" });
    });
    const owners = execFileSync("find", [volume, "-printf", "%U\n"], { encoding: "utf8" });
    expect(new Set(owners.trim().split("\n"))).toEqual(new Set(["1000"]));
  });

  test("refuses to write over another one, and leaves nothing behind when it fails", async () => {
    expect((await backUp("first")).code).toBe(2);
    const damaged = newVolume(`${name}-damaged`);
    mkdirSync(join(damaged, "do"));
    cpSync(join(PROJECT, "LICENSE"), join(damaged, "do/damaged.sqlite"));
    const { code, output } = await backUp("of-damaged", damaged);
    expect([code > 0, output]).toEqual([true, expect.stringContaining("file is not a database")]);
    expect(readdirSync(backups).sort()).toEqual(["first", "second", "third"]);
  });

  test("restores every decision that was answered before it began, and none that nobody asked for", async () => {
    let before: Asked[] = [];
    let sentByThen: Asked[] = [];
    let forgotten: Asked[] = [];
    await underLoad(async (load) => {
      await load.more(400);
      before = [...load.admitted];
      expect(await onMachine(guideLines("## Backup"))).toEqual({ code: 0, output: "" });
      sentByThen = [...load.sent];
      await load.more(200);
      forgotten = load.sent.slice(sentByThen.length);
    });
    expect(await container.stop()).toBe(0);
    expect(await onMachine(guideLines("## Restore"))).toEqual({ code: 0, output: "" });
    container = await Container.start(image, volume, environment);

    const origin = `http://127.0.0.1:${container.port}`;
    const stored = await storedIds(origin, TOKEN, sent.flatMap(keysOf));
    const isStored = (asked: Asked) => keysOf(asked).map((key) => stored.get(key)?.includes(asked.id));
    expect(before.filter((asked) => isStored(asked).includes(false))).toEqual([]);
    expect(forgotten.filter((asked) => isStored(asked).includes(true))).toEqual([]);
    const keysById = new Map(sent.map((asked) => [asked.id, keysOf(asked)]));
    const invented = [...stored].flatMap(([key, ids]) => ids.filter((id) => !keysById.get(id)?.includes(key)));
    expect(invented).toEqual([]);
    expect([...stored.values()].filter((ids) => new Set(ids).size < ids.length)).toEqual([]);
    for (const asked of before.slice(0, 50))
      expect(await consume(origin, TOKEN, asked)).toMatchObject({ allowed: true, replayed: true });
  });

  afterAll(async () => expect(await container.stop()).toBe(0));
});

describe("the systemd unit", () => {
  const unit = "etc/systemd/system/exact-limiter.service";
  let root: Root;
  let machine: Machine;
  let origin: string;

  const installByGuide = async () => {
    const conditions = { folder: "/checkout", binds: { "/checkout": newcomer.checkout } };
    for (const line of guideLines("## systemd")) await install(root, line, conditions);
  };
  const serves = async () => {
    while (!(await fetch(`${origin}/healthz`).catch(() => undefined))?.ok) await sleep(50);
  };
  const ask = async () => {
    const headers = { Authorization: `Bearer ${TOKEN}`, "Content-Type": "application/json" };
    const body = JSON.stringify({ policy: "chat", subject: { user: "u_1", ip: "203.0.113.7" } });
    return (await fetch(`${origin}/v1/consume`, { method: "POST", headers, body })).status;
  };

  beforeAll(async () => {
    root = image.base.copy();
    const port = await freePort();
    origin = `http://127.0.0.1:${port}`;
    const digest = createHash("sha256").update(TOKEN).digest("hex");
    const lines = [
      `PORT=${port}`,
      `LIMITER_TOKEN_DIGESTS=chat-backend caller sha256:${digest}, x caller sha256:${"0".repeat(64)}`,
    ];
    writeFileSync(join(newcomer.checkout, "limiter.env"), lines.join("\n"));
    await installByGuide();
    machine = await Machine.boot(root);
  });

  test("is valid", async () => {
    expect(await root.run(["systemd-analyze", "verify", `/${unit}`])).toEqual({ code: 0, output: "" });
    expect(statSync(join(root.path, "etc/exact-limiter.env")).mode & 0o777).toBe(0o600);
  });

  test("serves under systemd as a user without rights, starts again when it is killed, and ends cleanly with its counters kept", async () => {
    for (const line of shellLines(GUIDE, "## systemd").filter((line) => / systemctl /.test(line)))
      machine.run(line.replace(/^sudo /, ""));
    await serves();
    const status = machine.run(`cat /proc/${machine.property("MainPID")}/status`);
    expect(status).toMatch(/^Uid:\t[1-9]\d{4}\t/m);
    expect(status).toMatch(/^CapEff:\t0+$/m);
    expect(machine.property("MemoryMax")).toBe(String(2 ** 30));
    const statuses: number[] = [];
    for (let i = 0; i < 6; i++) statuses.push(await ask());
    expect(statuses).toEqual([200, 200, 200, 200, 200, 429]);

    machine.run("systemctl kill --signal=KILL exact-limiter");
    while (machine.property("NRestarts") !== "1") await sleep(50);
    await serves();
    expect(await ask()).toBe(429);

    machine.run("systemctl stop exact-limiter");
    expect([machine.property("Result"), machine.property("ExecMainStatus")]).toEqual(["success", "0"]);
    machine.run("systemctl start exact-limiter");
    await serves();
    expect(await ask()).toBe(429);
  });

  test("gives up when the configuration is wrong", async () => {
    machine.run("echo RATE_LIMIT_CHAT_PER_MIN=0 >>/etc/exact-limiter.env; systemctl restart exact-limiter");
    while (machine.property("ActiveState") !== "failed") await sleep(50);
    expect(Number(machine.property("NRestarts"))).toBeLessThanOrEqual(5);
  });

  test("starts another version after the same lines, also when its number is the same", async () => {
    const packages = join(newcomer.checkout, "deploy");
    const [name = ""] = readdirSync(packages).filter((file) => file.endsWith(".tgz"));
    const changed = mkdtempSync(join(folder, "changed-"));
    execFileSync("tar", ["-xzf", join(packages, name), "-C", changed]);
    writeFileSync(join(changed, "package/dist/licences.txt"), "changed");
    execFileSync("tar", ["-czf", join(packages, name), "-C", changed, "package"]);
    await installByGuide();
    const installed = join(root.path, "opt/exact-limiter/node_modules/exact-limiter/dist/licences.txt");
    expect(readFileSync(installed, "utf8")).toBe("changed");
  });

  afterAll(async () => {
    await machine?.end();
    root?.remove();
  });
});

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer } from "node:net";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { temporaryFolder } from "../../tools/temporary-folder";
import { caddyProgram, nginxProgram } from "./programs";

const DOCUMENT = readFileSync(resolve(import.meta.dirname, "../../docs/proxies.md"), "utf8");

/** The recipe of docs/proxies.md in this language. */
export function recipeIn(language: string): string {
  const [, recipe = ""] = new RegExp(`^\`\`\`${language}\n([^]*?)^\`\`\`$`, "m").exec(DOCUMENT) ?? [];
  return recipe;
}

/** What stands in place of the recipe's own addresses and token. */
export interface Places {
  readonly limiter: string;
  readonly app: string;
  readonly token: string;
  /** Has the proxy verify users, as the documentation says below the recipe. */
  readonly hasUsers?: boolean;
}

/** A user of a proxy that verifies them. */
export const USER = { name: "alice", password: "secret" };
/** Cheap to verify, since it protects nothing. */
const BCRYPT = "$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";

interface Kind {
  readonly language: string;
  /** The recipe's own listener, and that of the test. */
  readonly listener: readonly [written: string, of: (port: number) => string];
  /** What the documentation says to change where the proxy knows the user. */
  readonly users: readonly (readonly [written: string, changed: string])[];
  readonly start: (configuration: string, folder: string) => ChildProcess;
}

const KINDS: Record<"caddy" | "nginx", Kind> = {
  caddy: {
    language: "caddyfile",
    listener: ["example.com {", (port) => `http://127.0.0.1:${port} {`],
    users: [
      ["header_up -X-User-Id", "header_up X-User-Id {http.auth.user.id}"],
      ["\treverse_proxy", `\tbasicauth {\n\t\t${USER.name} ${BCRYPT}\n\t}\n\treverse_proxy`],
    ],
    start: (configuration, folder) => {
      const path = join(folder, "Caddyfile");
      writeFileSync(path, `{\n\tadmin off\n}\n${configuration}`);
      return spawn(caddyProgram(), ["run", "--config", path, "--adapter", "caddyfile"], {
        env: { ...process.env, HOME: folder, XDG_CONFIG_HOME: folder, XDG_DATA_HOME: folder },
        stdio: ["ignore", "ignore", "pipe"],
      });
    },
  },
  nginx: {
    language: "nginx",
    listener: ["listen 80;", (port) => `listen 127.0.0.1:${port};`],
    users: [
      ["proxy_set_header X-Limiter-Token", "proxy_set_header X-User-Id $remote_user; proxy_set_header X-Limiter-Token"],
      ["listen 80;", "listen 80; auth_basic users; auth_basic_user_file users;"],
      ["error_page 401 403", "error_page 403"],
    ],
    start: (configuration, folder) => {
      mkdirSync(join(folder, "bodies"));
      const path = join(folder, "nginx.conf");
      writeFileSync(join(folder, "users"), `${USER.name}:{PLAIN}${USER.password}\n`);
      // Otherwise its workers are nobody, who may not write here.
      const user = process.getuid?.() === 0 ? "user root;" : "";
      const folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((n) => `${n}_temp_path bodies/${n};`);
      const http = `access_log off; ${folders.join(" ")}\n${configuration}`;
      writeFileSync(path, `${user} daemon off; pid nginx.pid; events {}\nhttp {\n${http}\n}\n`);
      return spawn(nginxProgram(), ["-p", folder, "-c", path, "-e", "stderr"], { stdio: ["ignore", "ignore", "pipe"] });
    },
  },
};

export type ProxyKind = keyof typeof KINDS;

const folder = temporaryFolder();
const running = new Set<ChildProcess>();
// They would serve on if this process failed.
process.on("exit", () => running.forEach((child) => void child.kill("SIGKILL")));

/** A real proxy that runs by the recipe of the documentation. */
export class RecipeProxy {
  private constructor(
    readonly port: number,
    private readonly child: ChildProcess,
  ) {}

  static async start(kind: ProxyKind, places: Places): Promise<RecipeProxy> {
    const { language, listener, users, start } = KINDS[kind];
    const port = await freePort();
    const configuration = [
      ...(places.hasUsers ? users : []),
      [listener[0], listener[1](port)] as const,
      ["127.0.0.1:8787", places.limiter] as const,
      ["127.0.0.1:3000", places.app] as const,
      ["TOKEN", places.token] as const,
    ].reduce((text, [written, real]) => replaced(text, written, real), recipeIn(language));
    const child = start(configuration, mkdtempSync(join(folder, kind)));
    let log = "";
    child.stderr?.on("data", (chunk) => (log += chunk));
    running.add(child);
    child.once("exit", () => running.delete(child));
    while (!(await isListening(port))) {
      if (child.exitCode !== null) throw new Error(`${kind} ended:\n${log}`);
      await sleep(20);
    }
    return new RecipeProxy(port, child);
  }

  async stop(): Promise<void> {
    const ended = once(this.child, "exit");
    this.child.kill("SIGTERM");
    await ended;
  }
}

/** A recipe without the text is not the one that this tests. */
function replaced(text: string, written: string, real: string): string {
  if (!text.includes(written)) throw new Error(`The recipe has no ${JSON.stringify(written)}:\n${text}`);
  return text.replaceAll(written, real);
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await once(server.listen(0, "127.0.0.1"), "listening");
  const { port } = server.address() as AddressInfo;
  await once(server.close(), "close");
  return port;
}

function isListening(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });
}

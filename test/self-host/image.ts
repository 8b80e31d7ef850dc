import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { DockerfileParser, type Instruction } from "dockerfile-ast";
import type { User } from "./base";
import { type Conditions, Root } from "./root";

/** How npm reaches its registry on this machine. A builder passes that on too. */
function npmSettings(): { environment: Record<string, string>; binds: Record<string, string> } {
  const setting = (name: string) => execFileSync("npm", ["config", "get", name], { encoding: "utf8" }).trim();
  const certificates = process.env.NODE_EXTRA_CA_CERTS;
  return {
    environment: {
      HOME: "/root",
      npm_config_registry: setting("registry"),
      ...(certificates && { NODE_EXTRA_CA_CERTS: "/run/certificates.pem" }),
    },
    binds: {
      "/etc/resolv.conf": "/etc/resolv.conf",
      ...(certificates && { "/run/certificates.pem": certificates }),
    },
  };
}

/** Runs a command in a root as a step of a build, or as an administrator of a machine. */
export async function install(root: Root, line: string, conditions: Conditions = {}): Promise<void> {
  const { environment, binds } = npmSettings();
  const { code, output } = await root.run(["/bin/sh", "-ec", line], {
    ...conditions,
    environment: { ...environment, ...conditions.environment },
    binds: { ...binds, ...conditions.binds },
  });
  if (code !== 0) throw new Error(`${line} ended with ${code}:\n${output}`);
}

/** An image, made of a Dockerfile without Docker: each of its steps is done to a bare root file system. */
export class Image {
  command: readonly string[] = [];
  healthCheck: readonly string[] = [];
  user: User = "root";
  folder = "/";
  environment: Record<string, string> = {};
  volume = "";
  port = "";

  private constructor(
    /** What FROM names. */
    readonly base: Root,
    readonly root: Root,
    readonly context: string,
  ) {}

  static async build(context: string): Promise<Image> {
    const [from, ...steps] = DockerfileParser.parse(
      readFileSync(join(context, "Dockerfile"), "utf8"),
    ).getInstructions();
    const [, major = ""] = /^FROM node:(\d+)-\w+-slim$/.exec(from?.toString() ?? "") ?? [];
    const base = Root.base(major);
    const image = new Image(base, base.copy(), context);
    for (const step of steps) await image.#do(step);
    return image;
  }

  async #do(step: Instruction): Promise<void> {
    const text = step.getArgumentsContent() ?? "";
    switch (step.getKeyword()) {
      case "WORKDIR":
        this.folder = text;
        mkdirSync(join(this.root.path, text), { recursive: true });
        return;
      case "COPY":
        return this.#copy(text);
      case "RUN":
        return install(this.root, text, { user: this.user, folder: this.folder, environment: this.environment });
      case "ENV":
        for (const pair of text.split(/\s+/))
          this.environment[pair.slice(0, pair.indexOf("="))] = pair.slice(pair.indexOf("=") + 1);
        return;
      case "USER":
        this.user = text as User;
        return;
      case "VOLUME":
        this.volume = text;
        return;
      case "EXPOSE":
        this.port = text;
        return;
      case "HEALTHCHECK":
        this.healthCheck = JSON.parse(text.slice(text.indexOf("CMD ") + 4));
        return;
      case "CMD":
        this.command = JSON.parse(text);
        return;
      default:
        throw new Error(`${step.toString()}: this step is not known here.`);
    }
  }

  #copy(text: string): void {
    const [pattern = "", target = ""] = text.split(/\s+/);
    // The shell knows the patterns of Docker.
    execFileSync("sh", ["-c", `cp ${pattern} "$0"`, join(this.root.path, this.folder, target)], { cwd: this.context });
  }

  /** An empty volume, as Docker makes it: with the owner and the mode of the image's folder. */
  newVolume(path: string): string {
    execFileSync("cp", ["-a", join(this.root.path, this.volume), path]);
    return path;
  }

  /** How a container of this image runs its command and its health check. It can write to its volume only. */
  conditions(volume: string, environment: Readonly<Record<string, string>>): Conditions {
    return {
      user: this.user,
      folder: this.folder,
      environment: { ...this.environment, ...environment },
      binds: { [this.volume]: volume },
      isReadOnly: true,
    };
  }
}

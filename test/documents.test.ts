import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { describe, expect, test } from "vitest";

const project = resolve(import.meta.dirname, "..");
const scripts: Readonly<Record<string, string>> = JSON.parse(read("package.json")).scripts;
const documents = [
  "README.md",
  ...filesIn("docs").filter((path) => path.endsWith(".md")),
  ...[...filesIn("clients"), ...filesIn("examples")].filter((path) => path.endsWith("/README.md")),
];

describe.each(documents)("%s", (document) => {
  test("links to files and headings that exist", () => {
    expect(brokenLinksIn(document)).toEqual([]);
  });

  test("names scripts that package.json has", () => {
    const named = [...read(document).matchAll(/npm run ([\w:-]+)/g)].map(([, script = ""]) => script);
    expect(named.filter((script) => !Object.hasOwn(scripts, script))).toEqual([]);
  });
});

test("docs/architecture.md names files that exist", () => {
  const files = ["src", "console", "scripts", "test", "clients"].flatMap(filesIn);
  const named = [...read("docs/architecture.md").matchAll(/`([\w./-]+\.(?:ts|py))`/g)].map(([, name = ""]) => name);
  expect(named.length).toBeGreaterThan(20);
  expect(named.filter((name) => !files.some((file) => `/${file}`.endsWith(`/${name}`)))).toEqual([]);
});

test("the documents are found, of the clients and examples too", () => {
  expect(documents).toEqual(
    expect.arrayContaining(["docs/api.md", "clients/python/README.md", "examples/chat/README.md"]),
  );
});

test.each([
  ["docs/guarantees.md", 40],
  ["docs/security.md", 20],
  ["README.md", 8],
])("every promise in a table of %s names a test or a command that proves it", (document, fewestRows) => {
  const rows = read(document)
    .split("\n\n")
    .filter((block) => /^\|.*\| (tests|proven by) \|$/m.test(block))
    .flatMap((block) =>
      block
        .split("\n")
        .filter((line) => line.startsWith("|"))
        .slice(2),
    );
  expect(rows.length).toBeGreaterThanOrEqual(fewestRows);
  const definitions = definitionsIn(read(document));
  const proves = (proof: string) =>
    [...proof.matchAll(/\[([^\]]+)\](?:\(([^)]+)\))?/g)].some(([, name = "", target = definitions.get(name)]) =>
      /(^|\/)tests?\//.test(target ?? ""),
    ) || /`npm run [\w:-]+`/.test(proof);
  expect(rows.filter((row) => !proves(row.split("|").at(-2) ?? ""))).toEqual([]);
});

/** Links to no file or heading, references that nothing defines, and definitions that nothing uses. */
function brokenLinksIn(document: string): string[] {
  const text = withoutCode(read(document));
  const definitions = definitionsIn(text);
  const names = referencesIn(text);
  const targets = [...text.matchAll(/\]\(([^)\s]+)[^)]*\)/g)].map(([, target = ""]) => target);
  return [
    ...[...targets, ...definitions.values()].filter((target) => !leadsSomewhere(document, target)),
    ...names.filter((name) => !definitions.has(name)).map((name) => `[${name}] is not defined`),
    ...[...definitions.keys()].filter((name) => !names.includes(name)).map((name) => `[${name}] is not used`),
  ];
}

function leadsSomewhere(document: string, target: string): boolean {
  if (/^[a-z]+:/.test(target)) return true;
  const [path = "", heading] = target.split("#");
  const file = path === "" ? document : join(dirname(document), path);
  if (!existsSync(join(project, file))) return false;
  return heading === undefined || headingsIn(read(file)).includes(heading);
}

/** `[name]: target`, each on a line of its own. */
function definitionsIn(text: string): Map<string, string> {
  return new Map([...text.matchAll(/^\[([^\]]+)\]: (\S+)$/gm)].map(([, name = "", target = ""]) => [name, target]));
}

/** The names in `[name]` and `[text][name]`. */
function referencesIn(text: string): string[] {
  return [...text.matchAll(/\[([^\]]+)\](?:\[([^\]]+)\])?(?![([:])/g)].map(([, text = "", name = text]) => name);
}

/** Headings as links name them on GitHub. */
function headingsIn(text: string): string[] {
  return [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading = ""]) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-"),
  );
}

/** Brackets in code are no links. */
function withoutCode(text: string): string {
  return text.replace(/^ *```[\s\S]*?^ *```/gm, "").replace(/`[^`]*`/g, "code");
}

function read(path: string): string {
  return readFileSync(join(project, path), "utf8");
}

/** The project's own files, without those that are installed beside them. */
function filesIn(directory: string): string[] {
  return readdirSync(join(project, directory), { withFileTypes: true }).flatMap((entry) => {
    const path = `${directory}/${entry.name}`;
    if (!entry.isDirectory()) return [path];
    return entry.name.startsWith(".") || entry.name === "node_modules" ? [] : filesIn(path);
  });
}

/** Which way imports run: docs/architecture.md draws it. A test and `npm run check` hold the code to it. */
const only = (from, folders, files = []) => ({
  name: `${from}-imports-only-${[...folders, ...files].join("-") || "itself"}`,
  severity: "error",
  from: { path: `^src/${from}/` },
  to: { path: "^src/", pathNot: `^src/((${[from, ...folders].join("|")})/|(${files.join("|") || "-"})[.]ts$)` },
});

const not = (from, ...forbidden) => ({
  name: `${from}-imports-nothing-of-${forbidden.join("-")}`,
  severity: "error",
  from: { path: `^${from}/` },
  to: { path: `^(${forbidden.join("|")})/` },
});

export default {
  forbidden: [
    only("core", []),
    only("config", ["core"]),
    only("object/store", ["core", "object"], ["fault"]),
    only("object", ["core"], ["fault"]),
    // The outcomes that are counted and the orders that are recorded are words of the wire too.
    only("request", ["core", "config", "object"], ["audit/protocol", "counting/tally"]),
    only("objects", ["core", "config", "object", "request"], ["fault"]),
    only("limiter", ["core", "config", "object", "request", "objects"]),
    only("counting", ["core", "config", "object/store", "request", "objects", "limiter"], ["fault"]),
    only("audit", ["core", "config", "object", "request", "objects", "limiter"], ["fault"]),
    only("http", ["core", "config", "audit", "counting", "request", "objects", "limiter"], ["fault", "service"]),
    only(
      "test-clock",
      ["core", "config", "object", "audit", "counting", "request", "objects", "limiter", "http", "hub"],
      ["service"],
    ),
    only("middleware", ["client"]),
    only("testing", ["client"]),
    only("local", ["config"]),
    only("cli", ["config", "local", "request"]),
    {
      name: "the-store-knows-of-accounts-only-its-interface",
      severity: "error",
      from: { path: "^src/object/store/" },
      to: { path: "^src/object/", pathNot: "^src/object/(store/|page-store[.]ts$)" },
    },
    {
      name: "only-the-object-makes-its-store",
      comment: "Everything else in the object sees the interface in page-store.ts.",
      severity: "error",
      from: { path: "^src/object/", pathNot: "^src/object/(store/|object[.]ts$)" },
      to: { path: "^src/object/store/" },
    },
    {
      name: "what-is-deployed-has-no-clock-for-tests",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/test-clock/" },
      to: { path: "^src/test-clock/" },
    },
    {
      name: "the-client-stands-alone",
      comment: "It is published by itself, and runs wherever there is fetch: no package, and nothing of Node.",
      severity: "error",
      from: { path: "^src/client/" },
      to: { pathNot: "^src/client/" },
    },
    {
      name: "the-middleware-imports-only-types-of-frameworks",
      comment: "It runs wherever its framework does, and loads no other.",
      severity: "error",
      from: { path: "^src/middleware/" },
      to: { pathNot: "^src/(client|middleware)/", dependencyTypesNot: ["type-only"] },
    },
    {
      name: "the-service-needs-no-client",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/(client|middleware|testing)/" },
      to: { path: "^src/(client|middleware|testing)/" },
    },
    {
      name: "the-worker-knows-of-objects-only-their-protocol-and-its-text",
      comment: "An object is reached by a call, never by its code.",
      severity: "error",
      from: {
        path: "^src/(request|objects|limiter|http|service|counting/(counts|denial-log|outbox|stats-objects)|audit/(audit|orders|overrides)[.]ts$)",
      },
      to: {
        path: "^src/(object/|counting/(stats-object|bookkeeper)[.]ts$|audit/audit-object)",
        pathNot: "^src/object/message[.]ts$",
        dependencyTypesNot: ["type-only"],
      },
    },
    {
      name: "what-is-deployed-has-nothing-of-node",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/(cli|local)/" },
      to: { path: "^src/(cli|local)/" },
    },
    // Everything else stands on `src`, each on those below it: tests, then scripts and benchmarks, then tools.
    not("src", "tools", "scripts", "bench", "test", "examples"),
    not("tools", "scripts", "bench", "test"),
    not("scripts", "bench", "test"),
    not("bench", "scripts", "test"),
    {
      name: "the-console-imports-only-core",
      comment: "It runs in a browser and reaches the service by its calls; what it works out itself, core can.",
      severity: "error",
      from: { path: "^console/" },
      to: { path: "^(src|tools|scripts|test|bench)/", pathNot: "^src/core/" },
    },
    {
      name: "nothing-imports-the-console",
      severity: "error",
      from: { path: "^src/" },
      to: { path: "^console/" },
    },
    {
      name: "core-is-pure",
      comment: "No runtime, no package: the exactness can be read and tested by itself.",
      severity: "error",
      from: { path: "^src/core/" },
      to: { pathNot: "^src/core/" },
    },
    {
      name: "only-the-objects-and-the-entry-know-cloudflare",
      severity: "error",
      from: {
        path: "^src/",
        pathNot: "^src/(object/object|counting/stats-object|audit/audit-object|hub/hub|worker)[.]ts$",
      },
      to: { path: "^cloudflare:" },
    },
    { name: "no-cycles", severity: "error", from: {}, to: { circular: true } },
    {
      name: "no-orphans",
      severity: "error",
      from: { orphan: true, path: "^(src|console|tools)/" },
      to: {},
    },
  ],
  options: {
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    doNotFollow: { path: "node_modules" },
    builtInModules: { add: ["cloudflare:workers"] },
  },
};

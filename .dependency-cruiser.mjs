/** Which way imports run in `src`: docs/architecture.md draws it. A test and `npm run check` hold the code to it. */
const only = (from, allowed) => ({
  name: `${from}-imports-only-${allowed.join("-") || "itself"}`,
  severity: "error",
  from: { path: `^src/${from}/` },
  to: { path: "^src/", pathNot: `^src/(${[from, ...allowed].join("|")})/` },
});

export default {
  forbidden: [
    only("core", []),
    only("config", ["core"]),
    only("object", ["core"]),
    only("edge", ["core", "config", "object"]),
    only("http", ["core", "config", "edge"]),
    only("test-clock", ["core", "config", "object", "edge", "http"]),
    only("testing", ["client"]),
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
      name: "the-service-needs-no-client",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/(client|testing)/" },
      to: { path: "^src/(client|testing)/" },
    },
    {
      name: "the-edge-knows-of-the-object-only-what-it-says",
      comment: "Its types and its protocol: an object is reached by a call, never by its code.",
      severity: "error",
      from: { path: "^src/edge/" },
      to: { path: "^src/object/", dependencyTypesNot: ["type-only"] },
    },
    {
      name: "core-is-pure",
      comment: "No runtime, no package: the exactness can be read and tested by itself.",
      severity: "error",
      from: { path: "^src/core/" },
      to: { pathNot: "^src/core/" },
    },
    {
      name: "only-the-object-and-the-entry-know-cloudflare",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/(object/object|worker)[.]ts$" },
      to: { path: "^cloudflare:" },
    },
    { name: "no-cycles", severity: "error", from: {}, to: { circular: true } },
    {
      name: "no-orphans",
      severity: "error",
      from: { orphan: true, path: "^src/" },
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

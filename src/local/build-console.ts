import { buildConsole } from "./console";

/** Wrangler runs this before it bundles the Worker: `[build]` in `wrangler.toml`. */
await buildConsole();

import { buildConsole } from "./console";

/** What wrangler runs before it bundles the Worker: `[build]` in `wrangler.toml`. */
await buildConsole();

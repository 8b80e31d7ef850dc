import type { TokenDigest } from "../../config/token-digests";

/** Says in words what a configured token may do, and until when. */
export function describeToken(
  { name, role, policies, endsAtMs }: TokenDigest,
  inForce: Iterable<string>,
  nowMs: number,
): string {
  const known = new Set([...inForce, "inline"]);
  const listed = policies && [...policies].map((policy) => `${policy}${known.has(policy) ? "" : " (not in force)"}`);
  const may = listed ? `${role} of ${listed.join(", ")}` : role;
  if (!Number.isFinite(endsAtMs)) return `token ${name}: ${may}`;
  const end = new Date(endsAtMs).toISOString();
  return `token ${name}: ${may}, ${endsAtMs <= nowMs ? `ended at ${end}` : `until ${end}`}`;
}

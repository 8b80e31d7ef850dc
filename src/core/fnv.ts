/** FNV-1a over UTF-16 code units. Spreads evenly, and must never change: placement depends on it. Not for secrets. */
export function fnv1a(text: string, offset = 0x811c9dc5, prime = 0x01000193): number {
  let hash = offset;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), prime);
  return hash >>> 0;
}

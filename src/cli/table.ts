/** A table in Markdown. All columns but the first are aligned as `aligned` says. */
export function table(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  aligned: "left" | "right" = "right",
): string {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  const rules = head.map((_, i) => (i === 0 || aligned === "left" ? "---" : "---:"));
  return [line(head), line(rules), ...rows.map(line)].join("\n");
}

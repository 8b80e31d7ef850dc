import parse from "parse-prometheus-text-format";
import { expect, test } from "vitest";
import { prometheusText } from "../../src/http/prometheus";

test("a parser reads back names, help and labels with any characters", () => {
  const label = 'a "quoted" \\ back\\nslash\nand a line, {braces} = "x"';
  const help = 'Says "it" \\ and\nmore.';
  const text = prometheusText([
    { name: "a_total", help, type: "counter", samples: [{ labels: { one: label, two: "" }, value: 1e21 }] },
    { name: "b", help: "None.", type: "gauge", samples: [{ value: 0.25 }] },
    { name: "c", help: "Empty.", type: "gauge", samples: [] },
  ]);
  expect(parse(text)).toMatchObject([
    { name: "a_total", type: "COUNTER", metrics: [{ labels: { one: label, two: "" }, value: "1e+21" }] },
    { name: "b", help: "None.", type: "GAUGE", metrics: [{ value: "0.25" }] },
    { name: "c", type: "GAUGE", metrics: [] },
  ]);
  expect(parse(text)[0]?.help).toBe(help);
});

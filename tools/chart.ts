import { writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { type EChartsOption, init } from "echarts";

/** Colours that are readable on white and on black: a reader's theme decides about the background. */
const TEXT = "#808a94";
const LINE = "#808a9455";
const COLOURS = ["#2f81f7", "#d1782c", "#3fa35b", "#a371d9", "#8b8f96"];

export interface Series {
  readonly name: string;
  /** A value for each category, null for no value. */
  readonly values: readonly (number | null)[];
}

export interface Chart {
  readonly title: string;
  /** `stack` draws one horizontal bar for each category, made of the values of all series. */
  readonly kind: "bar" | "line" | "stack";
  readonly categories: readonly string[];
  readonly categoryLabel?: string;
  readonly series: readonly Series[];
}

/** Draws a chart into `docs/images/NAME.svg`. */
export function drawChart(name: string, { title, kind, categories, categoryLabel, series }: Chart): void {
  const text = { color: TEXT, fontSize: 13 };
  const categoryAxis = {
    type: "category" as const,
    data: [...categories],
    name: categoryLabel ?? "",
    nameLocation: "middle" as const,
    nameGap: 30,
    nameTextStyle: text,
    axisLabel: text,
    axisLine: { lineStyle: { color: LINE } },
  };
  const valueAxis = { type: "value" as const, min: 0, axisLabel: text, splitLine: { lineStyle: { color: LINE } } };
  const around = { top: 76, left: 12, right: 16, bottom: categoryLabel === undefined ? 12 : 36 };
  const option: EChartsOption = {
    animation: false,
    color: COLOURS,
    title: { text: title, textStyle: { ...text, fontWeight: "bold" } },
    legend: { top: 28, textStyle: text, itemWidth: 16, itemGap: 26 },
    grid: kind === "stack" ? { top: 64, left: 280, right: 16, bottom: 28 } : { ...around, containLabel: true },
    ...(kind === "stack"
      ? { xAxis: valueAxis, yAxis: { ...categoryAxis, inverse: true } }
      : { xAxis: categoryAxis, yAxis: valueAxis }),
    series: series.map(({ name, values }) => ({
      name,
      data: [...values],
      ...(kind === "stack" ? { type: "bar", stack: "all" } : { type: kind }),
    })),
  };
  const chart = init(null, null, { renderer: "svg", ssr: true, width: 860, height: 360 });
  chart.setOption(option);
  writeFileSync(resolve(import.meta.dirname, `../docs/images/${name}.svg`), `${chart.renderToSVGString()}\n`);
  chart.dispose();
}

import uPlot from "uplot";
import type { Series } from "./series";
import { OUTCOMES } from "./wire";

const HEIGHT = 220;

/** Stacked bars of decisions per minute. Draws itself anew when its host element or the colours change. */
export class Plot {
  #host: HTMLElement | undefined;
  #plot: uPlot | undefined;
  #series: Series | undefined;
  readonly #colours = matchMedia("(prefers-color-scheme: dark)");
  readonly #rebuild = () => this.#build();
  readonly #resized = new ResizeObserver(([entry]) => {
    if (entry) this.#plot?.setSize({ width: entry.contentRect.width, height: HEIGHT });
  });

  constructor(private readonly onPoint: (bucket: number | undefined) => void) {
    this.#colours.addEventListener("change", this.#rebuild);
  }

  /** Sets the host element. */
  host(host: Element | undefined): void {
    if (host === this.#host || !(host instanceof HTMLElement)) return;
    this.#host = host;
    this.#resized.observe(host);
    this.#build();
  }

  draw(series: Series): void {
    this.#series = series;
    if (this.#plot) this.#plot.setData(stacked(series));
    else this.#build();
  }

  remove(): void {
    this.#colours.removeEventListener("change", this.#rebuild);
    this.#resized.disconnect();
    this.#plot?.destroy();
  }

  #build(): void {
    if (this.#host === undefined || this.#series === undefined) return;
    this.#plot?.destroy();
    this.#plot = new uPlot(this.#options(this.#host), stacked(this.#series), this.#host);
  }

  get #bucketSeconds(): number {
    const [first = 0, second = first] = this.#series?.startsAtSeconds ?? [];
    return second - first;
  }

  #options(host: HTMLElement): uPlot.Options {
    const style = getComputedStyle(host);
    const colour = (name: string) => style.getPropertyValue(`--${name}`).trim();
    const axis = {
      stroke: colour("muted"),
      font: `12px ${style.fontFamily}`,
      grid: { stroke: colour("line"), width: 1 },
      ticks: { show: false },
    };
    const bars = uPlot.paths.bars?.({ size: [0.86, 60], align: 1 });
    return {
      width: host.clientWidth,
      height: HEIGHT,
      // The last label of an axis is centred on its mark, and must not be cut off.
      padding: [12, 20, 0, 0],
      legend: { show: false },
      cursor: { drag: { x: false, y: false }, points: { show: false }, y: false, dataIdx: bucketAt },
      scales: {
        // A bar begins at the start of its bucket, so the last one needs room after it.
        x: { range: (_, min, max) => [min, max + this.#bucketSeconds] },
        y: { range: (_, __, max) => [0, Math.max(1, max * 1.1)] },
      },
      axes: [
        { ...axis, size: 30, grid: { show: false }, values: HOURS_AND_MINUTES },
        { ...axis, size: 44, incrs: WHOLE_NUMBERS },
      ],
      series: [
        {},
        ...OUTCOMES.map((outcome) => {
          const fill = colour(outcome.replaceAll("_", "-"));
          return { fill, width: 0, points: { show: false }, ...(bars && { paths: bars }) };
        }).reverse(),
      ],
      hooks: { setCursor: [({ cursor }) => this.onPoint(cursor.idxs?.[1] ?? undefined)] },
    };
  }
}

/** The bucket whose bar is under the pointer: the last one that began before. uPlot names the one whose start is closest. */
function bucketAt({ data: [startsAtSeconds] }: uPlot, _: number, closest: number, seconds: number): number {
  return closest > 0 && (startsAtSeconds[closest] ?? 0) > seconds ? closest - 1 : closest;
}

const WHOLE_NUMBERS = [1, 2, 5]
  .flatMap((digit) => [0, 1, 2, 3, 4, 5, 6].map((zeros) => digit * 10 ** zeros))
  .sort((a, b) => a - b);

const hourAndMinute = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const HOURS_AND_MINUTES: uPlot.Axis.DynamicValues = (_, splits) =>
  splits.map((seconds) => hourAndMinute.format(seconds * 1_000));

/** Sums of each outcome and those below it, the largest sum first: uPlot draws the later bars over the earlier ones. */
function stacked({ startsAtSeconds, rates }: Series): uPlot.AlignedData {
  const below = new Array<number>(startsAtSeconds.length).fill(0);
  const tops = OUTCOMES.map((outcome) => rates[outcome].map((rate, i) => (below[i] = (below[i] ?? 0) + rate)));
  return [[...startsAtSeconds], ...tops.reverse()];
}

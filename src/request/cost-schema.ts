import * as z from "zod";
import { must } from "../config/mistake";
import { LARGEST_MAX } from "../core/limit";

/** Schemas of costs. */

export const wholeNumber = () =>
  z
    .number(must("be a whole number"))
    .refine(Number.isInteger, { ...must("be a whole number"), abort: true })
    .meta({ type: "integer" });

/** What a layer can weigh, or an event once it is settled. */
const layerCost = () =>
  wholeNumber()
    .refine((cost) => cost >= 0 && cost <= LARGEST_MAX, `must be from 0 to ${LARGEST_MAX}`)
    .meta({ minimum: 0, maximum: LARGEST_MAX });

const costByLayer = (description: string) =>
  z
    .record(z.string(), layerCost(), must("be an object"))
    .describe(description)
    .meta({ examples: [{ requests: 1, tokens: 400 }] });

export const costField = z
  .union([
    wholeNumber()
      .refine((cost) => cost >= 1, "must be at least 1")
      .meta({ minimum: 1 }),
    costByLayer("By the name of the layer. Layers that are not named weigh 1. A layer at 0 decides nothing."),
  ])
  .optional()
  .describe("How much the request weighs, in every layer or by layer; 1 when left out.");

/** The cost in a settle. */
export const settledCost = z
  .union([layerCost(), costByLayer("By the name of the layer. Layers that are not named keep their cost.")])
  .describe("The real cost, in every layer or by layer; 0 gives all of it back.");

/** A cost in an answer. */
export const shownCost = z.union([wholeNumber(), z.record(z.string(), wholeNumber())]);

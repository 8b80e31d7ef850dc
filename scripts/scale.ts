import { documented } from "./scale/tables";

/**
 * `npm run scale` prints the tables of docs/scale.md. Prices are in `scale/prices.ts`; estimates, and the traffic that a bill is
 * for, in `scale/bill.ts`: change them for your own.
 */
console.log(documented().join("\n\n"));

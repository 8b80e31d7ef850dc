import { placementsTable } from "./scale/placements";
import { documentTables } from "./scale/tables";

/**
 * `npm run scale` prints the tables of docs/scale.md and the table of placements in docs/operations.md. Paste them there: a test
 * compares them. Prices are in `scale/prices.ts`, estimates and traffic in `scale/bill.ts`. Change them for your own bill.
 */
// Simulated objects are overloaded on purpose: the faults that the code logs then are no news.
console.error = () => {};
console.log([...(await documentTables()), placementsTable()].join("\n\n"));

import { placementsTable } from "./scale/placements";
import { documentTables } from "./scale/tables";

/**
 * `npm run scale` prints the tables of docs/scale.md and of placements in docs/operations.md. Prices are in `scale/prices.ts`, estimates and traffic in
 * `scale/bill.ts`. Change them for your own bill. `scale/world.ts` simulates one key that the whole world asks for.
 */
console.log([...(await documentTables()), placementsTable()].join("\n\n"));

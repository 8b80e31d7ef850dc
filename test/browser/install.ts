import { REQUIREMENTS } from "../../scripts/example/processes";
import { ensurePython } from "../../tools/python";
import { ensureChromium } from "./chromium";

/** Before all tests, where it may take its time. */
export default function install(): void {
  ensureChromium();
  ensurePython(REQUIREMENTS);
}

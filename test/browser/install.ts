import { REQUIREMENTS } from "../../scripts/example/processes";
import { ensurePython } from "../../scripts/tools/python";
import { ensureChromium } from "./chromium";

/** Before all tests, where it may take its time. */
export default function install(): void {
  ensureChromium();
  ensurePython(REQUIREMENTS);
}

import { ensureChromium } from "../../scripts/local/chromium";
import { REQUIREMENTS } from "../../scripts/local/example";
import { ensurePython } from "../../scripts/local/python";

/** Before all tests, where it may take its time. */
export default function install(): void {
  ensureChromium();
  ensurePython(REQUIREMENTS);
}

import { REQUIREMENTS } from "../../scripts/example/processes";
import { ensurePython } from "../../tools/python";
import { ensureChromium } from "./chromium";

/** Installs what the tests need before they start, outside of their timeouts. */
export default function install(): void {
  ensureChromium();
  ensurePython(REQUIREMENTS);
}

import { ensureExamplePython } from "../../scripts/example/uvicorn";
import { ensureChromium } from "./chromium";

/** Installs what the tests need before they start, outside of their timeouts. */
export default function install(): void {
  ensureChromium();
  ensureExamplePython();
}

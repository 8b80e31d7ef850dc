import { debianProgram } from "../../tools/debian-program";

export const nginxProgram = () => debianProgram("nginx");
export const caddyProgram = () => debianProgram("caddy");

/** Unpacks what the tests need before they start, outside of their timeouts. */
export default function unpack(): void {
  nginxProgram();
  caddyProgram();
}

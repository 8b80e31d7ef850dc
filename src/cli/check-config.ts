import { resolve } from "node:path";
import type { Command } from "commander";
import { readConfig } from "../config/config";
import { shippedWorkerOptions } from "../local/shipped";
import { unknownVariables } from "../local/unknown-variables";
import { localVariables, namesSet, type Variables } from "../local/variables";
import { limitLines, uncountedAttributes } from "./limits";
import { describeToken } from "./token/describe";

export function addCheckConfig(program: Command): void {
  program
    .command("check-config")
    .description("prints the limits that `start` would serve here, or lists every mistake")
    .action(() => {
      const vars = shippedWorkerOptions().bindings ?? {};
      const devVarsPath = resolve(".dev.vars");
      checkConfig(localVariables(vars, devVarsPath, process.env), namesSet(vars, devVarsPath, process.env));
    });
}

/**
 * Validates variables, and prints what they configure. Warns of the names that the service does not know.
 * @throws ConfigError that lists every mistake.
 */
export function checkConfig(variables: Variables, names: readonly string[]): void {
  for (const warning of unknownVariables(names)) console.warn(warning);
  const config = readConfig(variables);
  for (const { variable, attribute } of uncountedAttributes(config))
    console.warn(`${variable} names ${attribute}, which no layer counts by.`);
  console.log(limitLines(config).join("\n"));
  for (const token of config.tokenDigests) console.log(describeToken(token, config.policies.keys(), Date.now()));
}

// @TITLE@: how close is the submitted decimal number to the target? README.md states the score.
import { Input, Metric, accept, log, readInput, refuse } from "./platform";
export { abi_version, alloc } from "./platform";

const MAX_DIGITS = 9; // so that the work is bounded

function refuseAt(at: i32, why: string): i64 {
  return refuse("submission byte " + at.toString() + ": " + why);
}

export function evaluate(ptr: u32, len: u32): i64 {
  const input: Input = readInput(ptr, len);
  const target = input.param("target", 0, 999999999);
  const range = input.param("range", 1, 999999999);
  if (input.error) return input.refuse();

  const digits = input.submission;
  if (!digits.length) return refuseAt(0, "1 to 9 digits were expected");
  if (digits.length > MAX_DIGITS) return refuseAt(MAX_DIGITS, "1 to 9 digits were expected");
  let number: i64 = 0;
  for (let i = 0; i < digits.length; i++) {
    const digit = <i32>digits[i] - 48;
    if (digit < 0 || digit > 9) return refuseAt(i, "a digit was expected");
    number = number * 10 + digit;
  }

  const distance = number < target ? target - number : number - target;
  if (!distance) log("spot on");
  const metrics = [new Metric("distance", distance)];
  return accept((range - distance) * 1000000 / range, "off by " + distance.toString(), metrics);
}

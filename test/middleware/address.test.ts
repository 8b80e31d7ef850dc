import { describe, expect, test } from "vitest";
import { addressIn, clientAddress } from "../../src/middleware/address.js";

describe("an address in a text", () => {
  test.each([
    ["203.0.113.7", "203.0.113.7"],
    [" 203.0.113.7 ", "203.0.113.7"],
    ["203.0.113.7:4711", "203.0.113.7"],
    ["255.255.255.255", "255.255.255.255"],
    ["0.0.0.0", "0.0.0.0"],
    ["2001:db8::1", "2001:db8::1"],
    ["[2001:db8::1]", "2001:db8::1"],
    ["[2001:db8::1]:4711", "2001:db8::1"],
    ["fe80::1%eth0", "fe80::1"],
    ["[fe80::1%eth0]:80", "fe80::1"],
    ["::ffff:203.0.113.7", "::ffff:203.0.113.7"],
    ["::", "::"],
  ])("%j is %s", (text, address) => expect(addressIn(text)).toBe(address));

  test.each([
    "",
    "unknown",
    "_hidden",
    "localhost",
    "203.0.113",
    "203.0.113.256",
    "203.0.113.07",
    "203.0.113.7.",
    "203.0.113.7.1",
    "0x7f.0.0.1",
    "2130706433",
    "2001:db8::1::2",
    "2001:db8::1]@[::2",
    "1:2:3:4:5:6:7:8:9",
    ":",
    "[",
  ])("%j is none", (text) => expect(addressIn(text)).toBeUndefined());
});

describe("the visitor's address", () => {
  test.each([
    ["the peer's, if no proxy is trusted", "203.0.113.1", "198.51.100.1", 0, "198.51.100.1"],
    ["the last entry behind one proxy", "203.0.113.1, 203.0.113.2", "198.51.100.1", 1, "203.0.113.2"],
    ["the last but one behind two proxies", "203.0.113.1,203.0.113.2,10.0.0.1", "10.0.0.2", 2, "203.0.113.2"],
    ["the peer's, if there are fewer entries than proxies", "203.0.113.1", "198.51.100.1", 2, "198.51.100.1"],
    ["the peer's, if the entry is no address", "unknown", "198.51.100.1", 1, "198.51.100.1"],
    ["the peer's, if there is no header", undefined, "::ffff:198.51.100.1", 1, "::ffff:198.51.100.1"],
    ["127.0.0.1 without a peer", undefined, undefined, 0, "127.0.0.1"],
    ["127.0.0.1 for a Unix socket", undefined, "", 0, "127.0.0.1"],
  ])("is %s", (_, forwardedFor, peer, trustedProxies, address) =>
    expect(clientAddress(forwardedFor, peer, trustedProxies)).toBe(address),
  );
});

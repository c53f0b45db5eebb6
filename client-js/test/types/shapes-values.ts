import type { Types } from "./shapes.js";

export const state: Types["state"] = { "heading": "south-west", "smallAndLarge": [-1, 9007199254740992, -9007199254740992, 70000], "floats": [0.5, 1000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000, -2], "meters": 0.10000000149011612, "nothing": null, "absent": null, "present": [1, 2.5], "given": 7, "bytes": [0, 255], "set": [1, 3], "byName": { "a": { "type": "empty" }, "b": { "type": "full", "size": 300 } }, "byPlayer": { "4": { "t": "Empty" }, "900": { "t": "One", "c": true } }, "byHeading": { "north": 1 }, "either": [0.25, "é"], "outcome": { "Err": "no" }, "boxed": { "Build": { "kind": "x", "at": [1, 2] } }, "deep": true, "class": "k" };
export const input: Types["input"] = { "heading": "north", "unit": null, "by_name": { "list": [{ "type": "full", "size": 1 }] }, "commands": ["Ready", { "Say": "hi" }, { "Move": [-4, 5] }, { "Build": { "kind": "ü", "at": null } }, { "Build": { "kind": "ü", "at": [8, 9] } }] };
export const command0: Types["command"] = "Ready";
export const command1: Types["command"] = { "Say": "hi" };
export const command2: Types["command"] = { "Move": [-4, 5] };
export const command3: Types["command"] = { "Build": { "kind": "ü", "at": null } };
export const command4: Types["command"] = { "Build": { "kind": "ü", "at": [8, 9] } };
export const hit: Types["event"] = { "Hit": [3, { "t": "One", "c": false }] };
export const over: Types["event"] = "Over";
export const map: Types["welcome"] = {"unit":null,"addresses":["127.0.0.1"],"by_player":{"7":1}};

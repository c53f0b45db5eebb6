// Generated from the types of the game. `UPDATE_TYPES=1 cargo test` writes it anew.

export type Adjacent = { "t": "Empty" } | { "t": "One", "c": boolean };

export type Command = "Ready" | { "Say": string } | { "Move": [number, number] } | { "Build": { kind: string, at: [number, number] | null, } };

export type Either = number | string;

export type Event = { "Hit": [PlayerId, Adjacent] } | "Over";

/**
 * A direction.
 */
export type Heading = "north" | "south-west";

export type Input = { heading: Heading, unit: Unit, by_name: { [key in string]: Array<Tagged> }, commands: Array<Command>, };

export type Map = { unit: Unit, addresses: Array<string>, by_player: { [key in PlayerId]: number }, };

export type Meters = number;

export type Pair<T> = [T, T];

/**
 * A player's number, unique within the room. Numbers start at 1 and are never reused.
 */
export type PlayerId = number;

export type State = { heading: Heading, smallAndLarge: [number, number, number, number], floats: [number, number, number], meters: Meters, nothing: null, absent: string | null, present: Pair<Meters> | null, omitted?: number | null, given?: number | null, bytes: Array<number>, set: Array<number>, byName: { [key in string]: Tagged }, byPlayer: { [key in PlayerId]: Adjacent }, byHeading: { [key in Heading]?: number }, either: Array<Either>, outcome: { Ok : number } | { Err : string }, boxed: Command, class: string, deep: boolean, };

export type Tagged = { "type": "empty" } | { "type": "full", size: number, };

export type Unit = null;

export interface Types {
  input: Input;
  command: Command;
  state: State;
  event: Event;
  welcome: Map;
}

// JSON in which large numbers keep every digit. Pure.
//
// A tracker's 64 bits, such as the number of its SIM card, do not fit into a number of this language;
// it would show another SIM card. Such a number becomes text. Where the engine does not hand over the
// source (before 2025), numbers are as they always were.

type Context = { source?: string } | undefined;

export function parseJson(text: string): unknown {
  const keep = (_key: string, value: unknown, context?: Context): unknown =>
    typeof value === 'number' && !Number.isSafeInteger(value) && context?.source && /^-?\d+$/.test(context.source) ? context.source : value;
  return JSON.parse(text, keep as (key: string, value: unknown) => unknown);
}

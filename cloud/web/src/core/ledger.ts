// The one line that must balance: received = stored + quarantined + duplicate + dead + dropped + in
// flight. Pure.

import type { LedgerLine } from '../api/types.ts';

export const PARTS = ['stored', 'quarantined', 'duplicate', 'dead', 'dropped', 'in_flight'] as const;

export type Balance =
  | { kind: 'empty' }
  /** What is in flight is known to Redis alone, and it does not answer. */
  | { kind: 'unknown' }
  | { kind: 'balanced' }
  /** Records received of which nobody says what became. */
  | { kind: 'missing'; records: number }
  /** More came out than went in: counted twice, or counters were lost. */
  | { kind: 'excess'; records: number };

export function balance(line: LedgerLine): Balance {
  const summed = line.received - PARTS.reduce((sum, part) => sum + (line[part] ?? 0), 0);
  if (line.in_flight === null) return summed < 0 ? { kind: 'excess', records: -summed } : { kind: 'unknown' };
  // What the cloud says counts too: it knows holes that no sum of this line shows.
  const open = line.difference !== 0 ? line.difference : summed;
  if (open > 0) return { kind: 'missing', records: open };
  if (open < 0) return { kind: 'excess', records: -open };
  if (line.unaccounted.length > 0) return { kind: 'missing', records: 0 };
  return line.received === 0 ? { kind: 'empty' } : { kind: 'balanced' };
}

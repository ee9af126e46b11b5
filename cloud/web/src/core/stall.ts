// Judges whether the cloud still speaks. Pure: told what happened and when, says what to show.
//
// Silence alone proves nothing, because a fleet at rest sends nothing between two comment lines 15 s
// apart. So after a short silence the cloud is asked a small question; silence and no answer is a
// stall. A closed connection is one at once.

/** Silence after which the cloud is asked, milliseconds. */
export const ASK_AFTER_MS = 2500;
/** Silence after which, without an answer, people are told. */
export const TELL_AFTER_MS = 4000;

export interface Heard {
  /** The stream is open, or was asked for and there is no answer yet. */
  open: boolean;
  /** What the cloud said instead of giving the stream; null: nothing. */
  why: string | null;
  /** Last time anything came: bytes of the stream or an answer to a question. Milliseconds. */
  word_ms: number | null;
  /** When we began to listen at all. */
  begun_ms: number;
}

export type Verdict =
  | { kind: 'connecting' }
  | { kind: 'live' }
  | { kind: 'stalled'; silent_s: number; last_ms: number | null; why: string | null };

export function judge(heard: Heard, now_ms: number): Verdict {
  const since = now_ms - (heard.word_ms ?? heard.begun_ms);
  if (heard.open && since < TELL_AFTER_MS) return { kind: heard.word_ms === null ? 'connecting' : 'live' };
  if (heard.word_ms === null && since < TELL_AFTER_MS) return { kind: 'connecting' };
  // A connection that just closed may be back before anybody has read a warning.
  if (!heard.open && since < 1000) return { kind: 'live' };
  return { kind: 'stalled', silent_s: Math.max(0, Math.round(since / 1000)), last_ms: heard.word_ms, why: heard.why };
}

export function shouldAsk(heard: Heard, now_ms: number): boolean {
  return heard.open && now_ms - (heard.word_ms ?? heard.begun_ms) >= ASK_AFTER_MS;
}

/** Before the next attempt to connect: 0.5 s, doubling to 8 s, with up to a quarter of chance. */
export function backoffMs(attempt: number, chance: number): number {
  const base = Math.min(8000, 500 * 2 ** Math.min(attempt, 10));
  return Math.round(base * (1 - 0.25 * chance));
}

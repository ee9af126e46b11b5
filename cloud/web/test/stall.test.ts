import { describe, expect, it } from 'vitest';
import { backoffMs, judge, shouldAsk } from '../src/core/stall.ts';

describe('judge', () => {
  it('says live while words come', () => {
    expect(judge({ why: null, open: true, word_ms: 9_000, begun_ms: 0 }, 10_000)).toEqual({ kind: 'live' });
  });

  it('says after four seconds of silence that nothing comes, and since when', () => {
    expect(judge({ why: null, open: true, word_ms: 6_001, begun_ms: 0 }, 10_000).kind).toBe('live');
    expect(judge({ why: null, open: true, word_ms: 6_000, begun_ms: 0 }, 10_000)).toEqual({ kind: 'stalled', silent_s: 4, last_ms: 6_000, why: null });
  });

  it('calls a closed connection stalled as soon as it was not back at once', () => {
    expect(judge({ why: null, open: false, word_ms: 9_500, begun_ms: 0 }, 10_000).kind).toBe('live');
    expect(judge({ why: null, open: false, word_ms: 8_900, begun_ms: 0 }, 10_000).kind).toBe('stalled');
  });

  it('is patient with the first word, not for ever', () => {
    expect(judge({ why: null, open: false, word_ms: null, begun_ms: 0 }, 1_500)).toEqual({ kind: 'connecting' });
    expect(judge({ why: null, open: true, word_ms: null, begun_ms: 0 }, 1_500)).toEqual({ kind: 'connecting' });
    expect(judge({ why: null, open: true, word_ms: null, begun_ms: 0 }, 4_000)).toEqual({ kind: 'stalled', silent_s: 4, last_ms: null, why: null });
  });

  it('hands on what the cloud said instead', () => {
    expect(judge({ why: 'its database is away', open: false, word_ms: 0, begun_ms: 0 }, 9_000)).toMatchObject({ why: 'its database is away' });
  });

  it('asks before it tells, and only on an open connection', () => {
    expect(shouldAsk({ why: null, open: true, word_ms: 0, begun_ms: 0 }, 2_499)).toBe(false);
    expect(shouldAsk({ why: null, open: true, word_ms: 0, begun_ms: 0 }, 2_500)).toBe(true);
    expect(shouldAsk({ why: null, open: false, word_ms: 0, begun_ms: 0 }, 9_000)).toBe(false);
  });
});

describe('backoffMs', () => {
  it('doubles from half a second to eight, a little less by chance', () => {
    expect([0, 1, 4, 5, 50].map((attempt) => backoffMs(attempt, 0))).toEqual([500, 1000, 8000, 8000, 8000]);
    expect(backoffMs(1, 1)).toBe(750);
  });
});

import { describe, expect, it } from 'vitest';
import { SseParser } from '../src/core/sse.ts';

const STREAM = 'id: e-1\nevent: picture\ndata: [1,\ndata: 2]\n\n: comment\n\nid: e-2\r\nevent: positions\r\ndata:[3]\r\n\r\ndata\n\n';

const EVENTS = [
  { id: 'e-1', event: 'picture', data: '[1,\n2]' },
  { id: 'e-2', event: 'positions', data: '[3]' },
  { id: 'e-2', event: 'message', data: '' },
];

describe('SseParser', () => {
  it('reads events however the stream is cut', () => {
    for (let size = 1; size <= STREAM.length; size++) {
      const parser = new SseParser();
      const events = [];
      for (let at = 0; at < STREAM.length; at += size) events.push(...parser.push(STREAM.slice(at, at + size)));
      expect(events, `chunks of ${size}`).toEqual(EVENTS);
    }
  });

  it('gives no event for a comment, an id alone or an unfinished one', () => {
    expect(new SseParser().push(': still here\n\nid: 7\n\nevent: x\n\ndata: half')).toEqual([]);
  });

  it('takes a lone carriage return for a line end and leaves out a byte order mark', () => {
    expect(new SseParser().push('\ufeffdata: a\r\rdata: b\n\n').map((event) => event.data)).toEqual(['a', 'b']);
  });

  it('ignores an id with a null and keeps the one before', () => {
    expect(new SseParser().push('id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n').map((event) => event.id)).toEqual(['1', '1']);
  });
});

import { describe, expect, it } from 'vitest';
import { problemOf } from '../src/api/client.ts';
import { canCancel, meaning } from '../src/core/command.ts';
import * as format from '../src/core/format.ts';
import { rows } from '../src/core/hex.ts';
import { parseJson } from '../src/core/json.ts';
import { balance } from '../src/core/ledger.ts';
import { parseRoute, takeToken } from '../src/core/route.ts';

describe('numbers as people read them', () => {
  it('spans', () => {
    expect([0.34, 7.26, 9.97, 12, 89, 90, 3_600, 3_900, 190_000, null].map(format.span)).toEqual([
      '0.3 s', '7.3 s', '10 s', '12 s', '89 s', '1 min', '1 h 00 min', '1 h 05 min', '2 d 4 h', '–',
    ]);
  });

  it('bytes, days, rates, counts', () => {
    expect([0, 1023, 1024, 150 * 1024, 2.1e9, null].map(format.bytes)).toEqual(['0 B', '1023 B', '1.0 KiB', '150 KiB', '2.0 GiB', '–']);
    expect([0.44, 1, 9.96, 31.9, null].map(format.days)).toEqual(['0.4 days', '1 day', '10 days', '31 days', '–']);
    expect([0, 3.21, 8412, null].map(format.rate)).toEqual(['0/s', '3.2/s', '8\u202f412/s', '–']);
    expect(format.count(726441220)).toBe('726\u202f441\u202f220');
  });

  it('how long ago, also for a clock ahead', () => {
    const now = Date.parse('2026-11-22T12:00:00Z');
    expect(format.ago('2026-11-22T11:59:59.500Z', now)).toBe('now');
    expect(format.ago('2026-11-22T11:56:00Z', now)).toBe('4 min ago');
    expect(format.ago('2026-11-22T12:01:00Z', now)).toBe('in 60 s');
    expect([format.ago(null, now), format.ago('never', now)]).toEqual(['never', 'never']);
  });

  it('headings', () => {
    expect([0, 359, 225, -90].map(format.heading)).toEqual(['0° north', '359° north', '225° south-west', '-90° west']);
  });
});

describe('the ledger', () => {
  const line = {
    received: 100, stored: 90, quarantined: 1, duplicate: 2, dead: 3, dropped: 0, in_flight: 4 as number | null,
    in_flight_estimated: false, difference: 0, unaccounted: [] as string[], since: '2026-11-22T00:00:00Z',
  };

  it('balances only if every record is somewhere', () => {
    expect(balance(line)).toEqual({ kind: 'balanced' });
    expect(balance({ ...line, received: 107 })).toEqual({ kind: 'missing', records: 7 });
    expect(balance({ ...line, stored: 99 })).toEqual({ kind: 'excess', records: 9 });
  });

  it('believes the cloud when it knows a hole that no sum shows', () => {
    expect(balance({ ...line, difference: 5 })).toEqual({ kind: 'missing', records: 5 });
    expect(balance({ ...line, unaccounted: ['7 to 9 of depot-1'] }).kind).toBe('missing');
  });

  it('does not say that it balances when nobody knows what is in flight', () => {
    expect(balance({ ...line, in_flight: null })).toEqual({ kind: 'unknown' });
    expect(balance({ ...line, in_flight: null, stored: 200 }).kind).toBe('excess');
    expect(balance({ ...line, received: 0, stored: 0, quarantined: 0, duplicate: 0, dead: 0, in_flight: 0 })).toEqual({ kind: 'empty' });
  });
});

describe('bytes of a dead letter', () => {
  it('come in rows, each with its narrowest note and the place where reading stopped', () => {
    const notes = [{ from: 0, to: 4, what: 'head' }, { from: 1, to: 2, what: 'count' }];
    const [first, second] = rows('08 02 4d41 00', notes, 3, 4);
    expect(first!.cells.map((cell) => cell.hex)).toEqual(['08', '02', '4D', '41']);
    expect(first!.cells.map((cell) => cell.note)).toEqual([0, 1, 0, 0]);
    expect(first!.cells.map((cell) => cell.stop)).toEqual([false, false, false, true]);
    expect(first!.cells.map((cell) => cell.text).join('')).toBe('··MA');
    expect([second!.offset, second!.cells.length, second!.cells[0]!.note]).toEqual([4, 1, -1]);
  });

  it('may stop behind the last byte', () => {
    expect(rows('0801', [], 2).flatMap((row) => row.cells).some((cell) => cell.stop)).toBe(false);
  });
});

describe('addresses', () => {
  it('name a view', () => {
    expect(parseRoute('')).toEqual({ view: 'map', device: null });
    expect(parseRoute('#/map/7')).toEqual({ view: 'map', device: 7 });
    expect(parseRoute('#/device/12')).toEqual({ view: 'device', id: 12 });
    expect(parseRoute('#/device/12abc')).toEqual({ view: 'devices' });
    expect(parseRoute('#/dead-letters/3')).toEqual({ view: 'letters', id: 3 });
    expect(parseRoute('#/nothing')).toEqual({ view: 'map', device: null });
  });

  it('lose the token and nothing else', () => {
    expect(takeToken('#token=a%2Fb')).toEqual({ token: 'a/b', rest: '' });
    expect(takeToken('#/map/7&token=abc')).toEqual({ token: 'abc', rest: '#/map/7' });
    expect(takeToken('#token=')).toEqual({ token: null, rest: '' });
    expect(takeToken('#token=%')).toEqual({ token: '%', rest: '' });
    expect(takeToken('#/pipeline')).toEqual({ token: null, rest: '#/pipeline' });
  });
});

describe('words', () => {
  it('a refusal says what, why and what to do', () => {
    const problem = problemOf(403, { title: 'Forbidden', detail: 'The token vilnius may only read.', code: 'E-WEB-003' });
    expect([problem.message, problem.why, problem.code, problem.status]).toEqual(['Forbidden', 'The token vilnius may only read.', 'E-WEB-003', 403]);
    expect(problem.todo).toContain('--role operator');
    expect(problemOf(500, null).todo).toContain('log of the cloud');
  });

  it('a command says what its state means', () => {
    expect(meaning('acked')).toMatchObject({ tone: 'good', over: true });
    expect(meaning('unknown').text).toContain('you decide');
    expect(meaning('invented').text).toContain('reload');
    expect(['queued', 'routed', 'acked'].map(canCancel)).toEqual([true, false, false]);
  });
});

it.runIf(Number(process.versions.node.split('.')[0]) >= 22)('a number of 64 bits keeps every digit', () => {
  expect(parseJson('{"iccid":8937000000413996123,"v":12.61,"n":-5,"e":1e30}')).toEqual({ iccid: '8937000000413996123', v: 12.61, n: -5, e: 1e30 });
});

// View 4: what nobody could read or store, byte by byte, and a second try.

import { useEffect, useRef, useState } from 'preact/hooks';

import { get, post, type Problem } from '../api/client.ts';
import type { DeadLetter, DeadLetterDetail, Page, Redriven } from '../api/types.ts';
import * as format from '../core/format.ts';
import { rows } from '../core/hex.ts';
import { me, now } from '../state.ts';
import { asProblem, useAsked, useCell } from './hooks.ts';
import { Empty, FIRST_PAGE, Loading, Pager, pathOf, Pill, Trouble } from './parts.tsx';

/** Rows of hex at first: enough to see the beginning, and where reading stopped is always shown. */
const ROWS_FIRST = 64;

export function LettersView({ id }: { id: number | null }) {
  const [pages, setPages] = useState(FIRST_PAGE);
  const path = pathOf('/api/v1/dead-letters?limit=100', pages);
  const asked = useAsked<Page<DeadLetter>>(path, (signal) => get(path, signal), 3000);
  const [told, setTold] = useState<string | null>(null);
  const items = asked.data?.items ?? [];
  return (
    <div class="page">
      <h1>Dead letters</h1>
      <p class="quiet">What nobody could read or store is kept here with all its bytes. Nothing in this list is lost.</p>
      <p class={told === null ? 'hidden' : 'note good'} role="status">
        {told}
      </p>
      {asked.problem && <Trouble problem={asked.problem} again={asked.again} />}
      {asked.loading && <Loading what="dead letters" />}
      {asked.data && items.length === 0 && (
        <Empty title="No dead letters">
          <p>Everything that came could be read and stored. When something cannot, it is kept here with its bytes, and the reason.</p>
        </Empty>
      )}
      {items.length > 0 && (
        <div class="scroll" tabIndex={0} role="region" aria-label="Table of dead letters">
          <table>
            <thead>
              <tr>
                <th scope="col">No.</th>
                <th scope="col">When</th>
                <th scope="col">From</th>
                <th scope="col">Reason</th>
                <th scope="col" class="number">
                  Records
                </th>
                <th scope="col" class="number">
                  Size
                </th>
              </tr>
            </thead>
            <tbody>
              {items.map((letter) => (
                <tr key={letter.id} aria-selected={letter.id === id ? 'true' : undefined}>
                  <th scope="row">
                    <a href={`#/dead-letters/${letter.id}`}>{letter.id}</a>
                  </th>
                  <td class="when" title={format.moment(letter.at)}>{format.ago(letter.at, now())}</td>
                  <td>{letter.imei ?? letter.ident ?? (letter.gateway || '–')}</td>
                  <td class="reason-cell">
                    {letter.reason} {letter.times > 1 && <small>({letter.times} times)</small>}
                  </td>
                  <td class="number">{format.count(letter.records)}</td>
                  <td class="number">{format.bytes(letter.size_bytes)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      <Pager pages={pages} next={asked.data?.next} words={['Newer', 'Older']} go={setPages} />
      {id !== null && (
        <Letter
          key={id}
          id={id}
          done={(words) => {
            setTold(words);
            asked.again();
            location.hash = '#/dead-letters';
          }}
        />
      )}
    </div>
  );
}

function Letter({ id, done }: { id: number; done(words: string): void }) {
  const operator = useCell(me)?.role === 'operator';
  const asked = useAsked<DeadLetterDetail>(`letter ${id}`, (signal) => get(`/api/v1/dead-letters/${id}`, signal));
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [stays, setStays] = useState<string | null>(null);
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => heading.current?.focus(), [asked.data !== null]);
  const redrive = async () => {
    setBusy(true);
    setProblem(null);
    setStays(null);
    try {
      const answer = await post<Redriven>(`/api/v1/dead-letters/${id}/redrive`);
      if (answer?.outcome === 'stays') setStays(answer.detail);
      else done(`Dead letter ${id}: ${answer?.detail ?? 'read again'}`);
    } catch (error) {
      setProblem(asProblem(error));
    }
    setBusy(false);
  };
  const letter = asked.data;
  if (asked.problem) return <Trouble problem={asked.problem} again={asked.again} />;
  if (!letter) return <Loading what={`dead letter ${id}`} />;
  return (
    <section class="card letter" aria-labelledby="letter-title">
      <h2 id="letter-title" tabIndex={-1} ref={heading}>
        Dead letter {id}
      </h2>
      <p class="reason">{letter.reason}</p>
      <dl class="facts">
        <dt>Class</dt>
        <dd>{letter.class}</dd>
        <dt>First seen</dt>
        <dd>{format.moment(letter.first_at)}</dd>
        <dt>Last seen</dt>
        <dd>
          {format.moment(letter.at)} <small>({letter.times === 1 ? 'once' : `${letter.times} times`})</small>
        </dd>
        <dt>Device</dt>
        <dd>
          {letter.device_id === null ? (
            (letter.imei ?? letter.ident ?? 'unknown')
          ) : (
            <a href={`#/device/${letter.device_id}`}>{letter.imei ?? letter.ident ?? letter.device_id}</a>
          )}
        </dd>
        <dt>Gateway</dt>
        <dd>{letter.gateway || 'unknown'}</dd>
        {letter.sqlstate && (
          <>
            <dt>Database said</dt>
            <dd>
              <code>{letter.sqlstate}</code>
            </dd>
          </>
        )}
        <dt>Read again now</dt>
        <dd>
          <Pill tone={letter.redrive_would_succeed ? 'good' : 'bad'}>{letter.redrive_would_succeed ? 'would succeed' : 'would fail'}</Pill>{' '}
          {letter.because}
        </dd>
      </dl>
      <p class="actions">
        {operator ? (
          <button type="button" class="primary" disabled={busy} onClick={() => void redrive()}>
            {busy ? 'Reading again …' : 'Redrive'}
          </button>
        ) : (
          <span class="quiet">Redriving it needs a token with the role operator.</span>
        )}
      </p>
      {stays !== null && (
        <p class="note bad" role="alert">
          It stays where it is: {stays}
        </p>
      )}
      {problem && <Trouble problem={problem} />}
      <Bytes letter={letter} />
    </section>
  );
}

function Bytes({ letter }: { letter: DeadLetterDetail }) {
  const [all, setAll] = useState(false);
  const [pointed, setPointed] = useState(-1);
  const { notes, stopped_at } = letter;
  const lines = rows(letter.hex, notes, stopped_at);
  const stopRow = stopped_at === null ? 0 : Math.floor(stopped_at / 16);
  const shown = all ? lines : lines.slice(0, Math.max(ROWS_FIRST, stopRow + 4));
  const behind = stopped_at !== null && stopped_at >= letter.hex.length / 2;
  const around = stopped_at === null ? null : notes.find((note) => note.from <= stopped_at && stopped_at < note.to);
  return (
    <>
      <h3>Bytes</h3>
      {stopped_at !== null && (
        <p>
          Reading stopped {behind ? 'behind the last byte' : 'at byte'} <b>{stopped_at}</b>
          {behind ? ': more was expected.' : around ? `, in “${around.what}”.` : '.'}
        </p>
      )}
      <div class="scroll" tabIndex={0} role="region" aria-label="The bytes in hexadecimal">
        <pre class="hex">
          {shown.map((row) => (
            <div key={row.offset}>
              <span class="offset">{row.offset.toString().padStart(5, '0')}</span>
              {row.cells.map((cell) => (
                <span
                  key={cell.at}
                  class={`byte ${cell.note >= 0 ? `n${cell.note % 4}` : ''} ${cell.stop ? 'stop' : ''} ${pointed >= 0 && cell.note === pointed ? 'pointed' : ''}`}
                  title={`byte ${cell.at}${cell.note >= 0 ? `: ${notes[cell.note]!.what}` : ''}${cell.stop ? ' – reading stopped here' : ''}`}
                  onMouseEnter={() => setPointed(cell.note)}
                >
                  {cell.stop ? `▸${cell.hex}` : ` ${cell.hex}`}
                </span>
              ))}
              <span class="ascii">{row.cells.map((cell) => cell.text).join('')}</span>
            </div>
          ))}
        </pre>
      </div>
      {!all && shown.length < lines.length && (
        <button type="button" onClick={() => setAll(true)}>
          Show all {format.bytes(letter.hex.length / 2)}
        </button>
      )}
      {letter.truncated && (
        <p class="quiet">
          Only the first 64 KiB are shown; <code>cloud dlq show {letter.id}</code> has the rest.
        </p>
      )}
      {notes.length > 0 && (
        <details>
          <summary>What the bytes say ({format.count(notes.length)} parts)</summary>
          <div class="scroll tall" tabIndex={0} role="region" aria-label="Parts of the payload">
            <table class="notes">
              <thead>
                <tr>
                  <th scope="col" class="number">
                    Bytes
                  </th>
                  <th scope="col">Meaning</th>
                </tr>
              </thead>
              <tbody>
                {notes.map((note, i) => (
                  <tr key={i} onMouseEnter={() => setPointed(i)} class={pointed === i ? 'pointed' : ''}>
                    <td class="number">{note.to - note.from === 1 ? note.from : `${note.from}–${note.to - 1}`}</td>
                    <td>{note.what}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        </details>
      )}
    </>
  );
}

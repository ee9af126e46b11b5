// Pieces every view is made of.

import type { ComponentChildren } from 'preact';

import type { Problem } from '../api/client.ts';
import type { State } from '../core/fleet.ts';

/** Text with `code` in backquotes, as sentences of this app have it. */
export function Words({ text }: { text: string }) {
  return (
    <>
      {text.split('`').map((part, i) => (i % 2 === 1 ? <code key={i}>{part}</code> : part))}
    </>
  );
}

export function Trouble({ problem, again }: { problem: Problem; again?: () => void }) {
  return (
    <div class="note bad" role="alert">
      <strong>{problem.message}</strong>
      {problem.code && <code class="code">{problem.code}</code>}
      <p>{problem.why}</p>
      <p>
        <Words text={problem.todo} />
      </p>
      {again && (
        <button type="button" onClick={again}>
          Try again
        </button>
      )}
    </div>
  );
}

export function Empty({ title, children }: { title: string; children: ComponentChildren }) {
  return (
    <div class="empty">
      <strong>{title}</strong>
      <div>{children}</div>
    </div>
  );
}

export function Loading({ what }: { what: string }) {
  return (
    <p class="loading" role="status">
      Asking for {what} …
    </p>
  );
}

/** The same shapes as on the map. */
export function Mark({ state }: { state: State }) {
  return (
    <svg class={`mark ${state}`} viewBox="-10 -10 20 20" width="14" height="14" aria-hidden="true">
      {state === 'moving' && <path d="M0-8.5 6.2 7 0 3.8-6.2 7Z" />}
      {state === 'stopped' && <rect x="-5" y="-5" width="10" height="10" />}
      {state === 'stale' && <circle r="5.5" fill="none" stroke-width="3.6" />}
    </svg>
  );
}

export function NoTracker() {
  return (
    <Empty title="No tracker has spoken yet">
      <p>
        Point one at the gateway (port 5027, TCP); it appears here with its first position. Without a tracker, <code>./dev demo</code>{' '}
        drives simulated ones.
      </p>
      <p>
        If one should be here already: <a href="#/pipeline">the pipeline</a> shows how far its records come, and <code>gateway check</code>{' '}
        says what is wrong at the edge.
      </p>
    </Empty>
  );
}

/** The cursors of the pages up to the one that is shown; the first has none. */
export type Pages = (string | null)[];

export const FIRST_PAGE: Pages = [null];

/** A list in pages, on the page that `pages` ends with. */
export function pathOf(list: string, pages: Pages): string {
  const after = pages.at(-1);
  return after ? `${list}&after=${encodeURIComponent(after)}` : list;
}

/** From page to page; `next` is the cursor of the one behind this. */
export function Pager(props: { pages: Pages; next: string | null | undefined; words: [back: string, on: string]; go(pages: Pages): void }) {
  const { pages, next, words, go } = props;
  return (
    <p class="pager">
      {pages.length > 1 && (
        <button type="button" onClick={() => go(pages.slice(0, -1))}>
          {words[0]}
        </button>
      )}
      {next && (
        <button type="button" onClick={() => go([...pages, next])}>
          {words[1]}
        </button>
      )}
    </p>
  );
}

export function Pill({ tone, children }: { tone: 'good' | 'wait' | 'bad' | 'plain'; children: ComponentChildren }) {
  return <span class={`pill ${tone}`}>{children}</span>;
}

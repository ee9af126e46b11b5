// The stream of positions: keeps a connection, resumes it, and knows how long nothing was heard.
//
// The shell around `core/sse` and `core/stall`: it reads, feeds, and obeys.

import { SseParser } from '../core/sse.ts';
import { ASK_AFTER_MS, backoffMs, judge, shouldAsk, type Heard, type Verdict } from '../core/stall.ts';
import { bodyOf, Problem, problemOf } from './client.ts';
import { headers } from './session.ts';
import type { Latest } from './types.ts';

export interface Listener {
  /** `whole`: this belongs to a picture of everything, not to a change. */
  rows(rows: Latest[], whole: boolean): void;
  verdict(verdict: Verdict): void;
  /** 401 or 403: waiting will not help. */
  refused(problem: Problem): void;
}

export class Live {
  // Whoever begins to listen has just been told who he is: that was a word.
  private heard: Heard = { open: false, why: null, word_ms: performance.now(), begun_ms: performance.now() };
  private lastId = '';
  private stop = new AbortController();
  private connection: AbortController | null = null;
  private asking = false;
  private attempt = 0;
  private readonly listener: Listener;

  constructor(listener: Listener) {
    this.listener = listener;
    void this.run();
    const timer = setInterval(() => this.look(), 500);
    this.stop.signal.addEventListener('abort', () => clearInterval(timer));
  }

  close(): void {
    this.stop.abort();
    this.connection?.abort();
  }

  private word(): void {
    this.heard.word_ms = performance.now();
  }

  private look(): void {
    const now = performance.now();
    if (shouldAsk(this.heard, now) && !this.asking) void this.question();
    const verdict = judge(this.heard, now);
    // The wall clock is for people; the monotonic one judges.
    if (verdict.kind === 'stalled' && verdict.last_ms !== null) verdict.last_ms += Date.now() - now;
    this.listener.verdict(verdict);
  }

  /** The stream is quiet: is anybody there? */
  private async question(): Promise<void> {
    this.asking = true;
    try {
      const answer = await fetch('/api/v1/me', { headers: headers(), signal: AbortSignal.timeout(ASK_AFTER_MS) });
      if (answer.ok) this.word();
    } catch {
      // No answer is the answer; `judge` counts the silence. A connection nobody speaks on is
      // given up, so that a cloud behind a cut cable is found again when it is back.
      if (performance.now() - (this.heard.word_ms ?? 0) > 10_000) this.connection?.abort();
    } finally {
      this.asking = false;
    }
  }

  private async run(): Promise<void> {
    while (!this.stop.signal.aborted) {
      try {
        await this.listen();
      } catch (error) {
        if (error instanceof Problem && (error.status === 401 || error.status === 403)) {
          this.listener.refused(error);
          return;
        }
        this.heard.why = error instanceof Problem ? error.why : null;
      }
      this.heard.open = false;
      this.look();
      if (this.stop.signal.aborted) return;
      const wait = backoffMs(this.attempt++, Math.random());
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }

  private async listen(): Promise<void> {
    const connection = new AbortController();
    this.connection = connection;
    const resume: Record<string, string> = this.lastId === '' ? {} : { 'Last-Event-ID': this.lastId };
    // An answer may take the cloud seconds. Whoever does not refuse at once may be asked meanwhile.
    const waits = setTimeout(() => (this.heard.open = true), 1000);
    let answer: Response;
    try {
      answer = await fetch('/api/v1/live', {
        headers: { Accept: 'text/event-stream', ...headers(), ...resume },
        signal: connection.signal,
        cache: 'no-store',
      });
    } finally {
      clearTimeout(waits);
    }
    if (!answer.ok || answer.body === null) throw problemOf(answer.status, await bodyOf(answer));
    this.heard.open = true;
    this.heard.why = null;
    this.word();
    this.look();
    const parser = new SseParser();
    const text = new TextDecoder();
    const reader = answer.body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      this.word();
      this.attempt = 0;
      for (const event of parser.push(text.decode(value, { stream: true }))) {
        if (event.id !== '') this.lastId = event.id;
        if (event.event === 'picture' || event.event === 'positions') {
          this.listener.rows(JSON.parse(event.data) as Latest[], event.event === 'picture');
        }
      }
    }
  }
}

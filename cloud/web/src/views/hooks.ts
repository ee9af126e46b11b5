// What views need from the outside: the time, a watched value, an answer that is asked for again.

import { useEffect, useRef, useState } from 'preact/hooks';

import { Problem, unreachable } from '../api/client.ts';
import type { Cell } from '../core/cell.ts';

export function useCell<T>(cell: Cell<T>): T {
  const [value, setValue] = useState(cell.get());
  useEffect(() => {
    setValue(() => cell.get());
    return cell.watch(() => setValue(() => cell.get()));
  }, [cell]);
  return value;
}

/** Draws again every `ms`. */
export function useTick(ms: number): void {
  const [, setTick] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => setTick((tick) => tick + 1), ms);
    return () => clearInterval(timer);
  }, [ms]);
}

export interface Asked<T> {
  data: T | null;
  problem: Problem | null;
  loading: boolean;
  again(): void;
}

export function asProblem(error: unknown): Problem {
  return error instanceof Problem ? error : unreachable();
}

/**
 * Asks at once, whenever `key` changes, and every `every_ms` (0: never again). What was known stays
 * while a later question fails.
 */
export function useAsked<T>(key: string | null, ask: (signal: AbortSignal) => Promise<T>, every_ms = 0): Asked<T> {
  const [state, setState] = useState<{ key: string | null; data: T | null; problem: Problem | null }>({ key, data: null, problem: null });
  const [round, setRound] = useState(0);
  const latest = useRef(ask);
  latest.current = ask;
  useEffect(() => {
    if (key === null) return undefined;
    const stop = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const turn = async () => {
      try {
        const data = await latest.current(stop.signal);
        if (!stop.signal.aborted) setState({ key, data, problem: null });
      } catch (error) {
        if (stop.signal.aborted) return;
        const problem = asProblem(error);
        setState((before) => ({ key, data: before.key === key ? before.data : null, problem }));
      }
      if (every_ms > 0 && !stop.signal.aborted) timer = setTimeout(turn, every_ms);
    };
    void turn();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [key, round, every_ms]);
  const current = state.key === key;
  return {
    data: current ? state.data : null,
    problem: current ? state.problem : null,
    loading: key !== null && (!current || (state.data === null && state.problem === null)),
    again: () => setRound((n) => n + 1),
  };
}

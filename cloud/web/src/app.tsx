// The frame around the views: where to go, whether the cloud speaks, light or dark.

import { useEffect, useMemo, useRef, useState } from 'preact/hooks';

import { Problem } from './api/client.ts';
import * as format from './core/format.ts';
import { parseRoute, type Route } from './core/route.ts';
import { chooseTheme, enter, fleet, me, now, refused, theme, verdict } from './state.ts';
import { DeviceView } from './views/device.tsx';
import { DevicesView } from './views/devices.tsx';
import { Door } from './views/door.tsx';
import { asProblem, useCell, useTick } from './views/hooks.ts';
import { LettersView } from './views/letters.tsx';
import { LiveView } from './views/live.tsx';
import { PipelineView } from './views/pipeline.tsx';
import noticesUrl from '../map/third-party.txt?url';

const TABS: { view: Route['view'][]; href: string; name: string }[] = [
  { view: ['map'], href: '#/map', name: 'Map' },
  { view: ['devices', 'device'], href: '#/devices', name: 'Devices' },
  { view: ['pipeline'], href: '#/pipeline', name: 'Pipeline' },
  { view: ['letters'], href: '#/dead-letters', name: 'Dead letters' },
];

export function App() {
  const who = useCell(me);
  const turnedAway = useCell(refused);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [round, setRound] = useState(0);
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    enter().then(
      () => {
        setProblem(null);
        refused.set(null);
      },
      (error: unknown) => {
        const found = asProblem(error);
        setProblem(found);
        // Without an answer there is nothing for people to do but to wait.
        if (found.status === 0) timer = setTimeout(() => setRound((n) => n + 1), 2000);
      },
    );
    return () => clearTimeout(timer);
  }, [round]);
  const shut = turnedAway ?? problem;
  if (who === null && shut) return <Door problem={shut} again={() => setRound(round + 1)} />;
  if (who === null) {
    return (
      <main class="door" id="main">
        <p role="status">Asking the cloud …</p>
      </main>
    );
  }
  return <Inside />;
}

function Inside() {
  const [hash, setHash] = useState(location.hash);
  const route = useMemo(() => parseRoute(hash), [hash]);
  const main = useRef<HTMLElement>(null);
  useEffect(() => {
    const moved = () => setHash(location.hash);
    addEventListener('hashchange', moved);
    // The links are there before this listens: whoever took one meanwhile goes now.
    moved();
    return () => removeEventListener('hashchange', moved);
  }, []);
  const tab = TABS.find(({ view }) => view.includes(route.view)) ?? TABS[0]!;
  const first = useRef(true);
  useEffect(() => {
    document.title = `${tab.name} · Milepost`;
    // Whoever cannot see that the view changed is put at its beginning.
    if (!first.current) main.current?.focus({ preventScroll: true });
    first.current = false;
  }, [tab.name]);
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => (event.preventDefault(), main.current?.focus())}>
        Skip to the content
      </a>
      <header class="bar">
        <a class="brand" href="#/map">
          <svg viewBox="0 0 20 20" width="18" height="18" aria-hidden="true">
            <path d="M5 19V6a5 5 0 0 1 10 0v13Z" />
            <path class="line" d="M8 9h4M8 13h4" />
          </svg>
          Milepost
        </a>
        <nav aria-label="Views">
          {TABS.map(({ href, name }) => (
            <a key={href} href={href} aria-current={name === tab.name ? 'page' : undefined}>
              {name}
            </a>
          ))}
        </nav>
        <Status />
        <ThemeButton />
        <Who />
      </header>
      <Stalled />
      <main id="main" class={route.view} tabIndex={-1} ref={main}>
        <View route={route} />
      </main>
    </>
  );
}

function View({ route }: { route: Route }) {
  switch (route.view) {
    case 'map':
      return <LiveView device={route.device} />;
    case 'devices':
      return <DevicesView />;
    case 'device':
      return <DeviceView key={route.id} id={route.id} />;
    case 'pipeline':
      return <PipelineView />;
    case 'letters':
      return <LettersView id={route.id} />;
  }
}

/** Positions older than this, while the cloud speaks, are worth a word, milliseconds. */
const QUIET_MS = 30_000;

function Status() {
  useTick(1000);
  const state = useCell(verdict);
  if (state.kind === 'stalled') return <p class="status bad">✕ Stalled</p>;
  if (state.kind === 'connecting') return <p class="status wait">… Connecting</p>;
  const quiet = fleet.newest_ms > 0 && now() - fleet.newest_ms > QUIET_MS;
  return (
    <p class={`status ${quiet ? 'wait' : 'good'}`} title={fleet.newest_ms > 0 ? `Newest position ${format.moment(fleet.newest_ms)}` : undefined}>
      {quiet ? `● Last position ${format.ago(fleet.newest_ms, now())}` : '● Live'}
    </p>
  );
}

/** Said aloud once, when it begins; the counting seconds are for eyes. */
function Stalled() {
  const state = useCell(verdict);
  const stalled = state.kind === 'stalled';
  return (
    <div id="silence" class={stalled ? '' : 'hidden'}>
      <span role="status">{!stalled ? '' : state.why === null ? 'No word from the cloud' : 'The cloud sends no positions'}</span>
      {stalled && (
        <span>
          {' '}
          for {state.silent_s} s. {state.why !== null && `It says: ${state.why} `}
          {state.last_ms === null ? 'It has not spoken yet.' : `Last word ${format.clock(state.last_ms)}; what you see is from then.`} This page keeps
          trying. On the server, <code>cloud status</code> says more.
        </span>
      )}
    </div>
  );
}

function ThemeButton() {
  const dark = useCell(theme) === 'dark';
  useEffect(() => {
    document.documentElement.dataset['theme'] = dark ? 'dark' : 'light';
  }, [dark]);
  return (
    <button type="button" class="theme" onClick={() => chooseTheme(dark ? 'light' : 'dark')}>
      {dark ? 'Light' : 'Dark'}
      <span class="hidden"> colours</span>
    </button>
  );
}

function Who() {
  const who = useCell(me);
  if (!who) return null;
  return (
    <details class="who">
      <summary>{who.name}</summary>
      <div>
        <p>
          {who.name}, role {who.role}
        </p>
        <p>Milepost cloud {who.version}</p>
        <p>
          <a href={noticesUrl}>Licences of what is in this page</a>
        </p>
      </div>
    </details>
  );
}

// View 2: where records are on their way, and whether any got lost.

import { get } from '../api/client.ts';
import type { GatewayLine, LedgerLine, Pipeline, Stage, StageName } from '../api/types.ts';
import * as format from '../core/format.ts';
import { balance, PARTS } from '../core/ledger.ts';
import { now } from '../state.ts';
import { useAsked, useTick } from './hooks.ts';
import { Empty, Loading, Pill, Trouble, Words } from './parts.tsx';

const STAGES: Record<StageName, { title: string; counts: string }> = {
  tracker: { title: 'Trackers', counts: 'records' },
  gateway: { title: 'Gateways', counts: 'records' },
  redis: { title: 'Redis', counts: 'entries' },
  cloud: { title: 'Cloud', counts: 'rows' },
  database: { title: 'Database', counts: 'rows' },
};

const TONES = { moving: 'good', idle: 'plain', stalled: 'bad', unknown: 'wait' } as const;
const SIGNS = { moving: '▶', idle: '■', stalled: '✕', unknown: '?' } as const;

export function PipelineView() {
  const asked = useAsked<Pipeline>('pipeline', (signal) => get('/api/v1/pipeline', signal), 2000);
  useTick(1000);
  const { data } = asked;
  return (
    <div class="page">
      <h1>Pipeline</h1>
      {asked.problem && <Trouble problem={asked.problem} again={asked.again} />}
      {asked.problem && data && <p class="quiet">What follows was true {format.ago(data.now, now())}.</p>}
      {asked.loading && <Loading what="the state of the pipeline" />}
      {data && (
        <>
          <ol class="stages" aria-label="From tracker to database">
            {data.stages.map((stage) => (
              <StageBox key={stage.name} stage={stage} />
            ))}
          </ol>
          <Ledger line={data.ledger} />
          <Gateways lines={data.gateways} />
        </>
      )}
    </div>
  );
}

function StageBox({ stage }: { stage: Stage }) {
  const { title, counts } = STAGES[stage.name] ?? { title: stage.name, counts: '' };
  return (
    <li class={`stage ${stage.state}`}>
      <h2>{title}</h2>
      <Pill tone={TONES[stage.state] ?? 'wait'}>
        <span aria-hidden="true">{SIGNS[stage.state] ?? '?'}</span> {stage.state}
      </Pill>
      <dl>
        <dt>Rate</dt>
        <dd>{format.rate(stage.rate_per_s)}</dd>
        <dt>Waiting</dt>
        <dd>{stage.backlog === null ? '–' : `${format.count(stage.backlog)} ${counts}`}</dd>
        <dt>Oldest</dt>
        <dd>{stage.backlog === 0 && stage.oldest_s === null ? 'none' : format.span(stage.oldest_s)}</dd>
      </dl>
      {stage.detail && <p class="detail">{stage.detail}</p>}
    </li>
  );
}

const NAMES: Record<(typeof PARTS)[number], string> = {
  stored: 'stored',
  quarantined: 'quarantined',
  duplicate: 'duplicate',
  dead: 'dead letters',
  dropped: 'dropped',
  in_flight: 'in flight',
};

function Ledger({ line }: { line: LedgerLine | null }) {
  return (
    <section class="card ledger" aria-labelledby="ledger-title">
      <h2 id="ledger-title">Loss ledger</h2>
      {line === null ? (
        <p class="quiet">
          <Words text="The ledger cannot be read: the cloud does not reach its database. `cloud check` names the reason." />
        </p>
      ) : (
        <>
          <p class="equation">
            <Term name="received" value={line.received} />
            {PARTS.map((part, i) => (
              <Term
                key={part}
                sign={i === 0 ? '=' : '+'}
                name={NAMES[part]}
                value={line[part]}
                about={part === 'in_flight' && line.in_flight_estimated}
              />
            ))}
          </p>
          <LedgerVerdict line={line} />
        </>
      )}
    </section>
  );
}

interface TermProps {
  sign?: string;
  name: string;
  value: number | null;
  /** Estimated. */
  about?: boolean;
}

function Term({ sign = '', name, value, about = false }: TermProps) {
  return (
    <span class="term">
      {sign !== '' && <span class="sign">{sign} </span>}
      <b>
        {about && value !== null && value > 0 ? '≈ ' : ''}
        {value === null ? '?' : format.count(value)}
      </b>{' '}
      <span>{name}</span>
    </span>
  );
}

function LedgerVerdict({ line }: { line: LedgerLine }) {
  const judged = balance(line);
  const since = `since ${format.moment(line.since)}`;
  switch (judged.kind) {
    case 'empty':
      return <p class="verdict quiet">Nothing was received {since}.</p>;
    case 'balanced':
      return (
        <p class="verdict good">
          <span aria-hidden="true">✓</span> It balances: every record received {since} is accounted for.
        </p>
      );
    case 'unknown':
      return (
        <p class="verdict wait">
          <span aria-hidden="true">?</span> Nobody can say what is in flight: Redis does not answer. Nothing is lost by that; gateways keep what is
          not stored.
        </p>
      );
    case 'missing':
      return (
        <div class="verdict bad" role="alert">
          <p>
            <span aria-hidden="true">✕</span> It does not balance: {format.count(judged.records)} records are unaccounted for. Run{' '}
            <code>cloud ledger</code>: it names gateway and place.
          </p>
          {line.unaccounted.length > 0 && (
            <ul>
              {line.unaccounted.map((sentence) => (
                <li key={sentence}>{sentence}</li>
              ))}
            </ul>
          )}
        </div>
      );
    case 'excess':
      return (
        <p class="verdict bad" role="alert">
          <span aria-hidden="true">✕</span> It does not balance: {format.count(judged.records)} records more are accounted for than were received. Run{' '}
          <code>cloud ledger</code>: counters were lost, or something is counted twice.
        </p>
      );
  }
}

function Gateways({ lines }: { lines: GatewayLine[] }) {
  return (
    <section class="card" aria-labelledby="gateways-title">
      <h2 id="gateways-title">Gateways</h2>
      {lines.length === 0 ? (
        <Empty title="No gateway has been heard of yet">
          <p>
            Start one with <code>gateway run</code>; <code>cloud site add NAME</code> makes everything it needs. <code>gateway check</code> on its box
            says why it is not here.
          </p>
        </Empty>
      ) : (
        <div class="scroll" tabIndex={0} role="region" aria-label="Table of gateways">
          <table>
            <thead>
              <tr>
                <th scope="col">Gateway</th>
                <th scope="col">Heard</th>
                <th scope="col" class="number">
                  Can stay offline
                </th>
                <th scope="col" class="number">
                  Certificate
                </th>
                <th scope="col">Spool</th>
                <th scope="col" class="number">
                  Waiting
                </th>
              </tr>
            </thead>
            <tbody>
              {lines.map((line) => (
                <tr key={line.id}>
                  <th scope="row">{line.id}</th>
                  <td>{format.ago(line.last_seen, now())}</td>
                  <Limit value={line.days_left_offline} least={1} />
                  <Limit value={line.certificate_days_left} least={30} />
                  <td>
                    <Spool used={line.spool_bytes} most={line.spool_bytes_max} />
                  </td>
                  <td class="number">{line.backlog_frames === null ? '–' : `${format.count(line.backlog_frames)} frames`}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}

/** Days; fewer than `least` is a warning in words. */
function Limit({ value, least }: { value: number | null; least: number }) {
  const low = value !== null && value < least;
  return (
    <td class={`number ${low ? 'low' : ''}`}>
      {format.days(value)}
      {low && (
        <>
          {' '}
          <Pill tone="bad">! soon</Pill>
        </>
      )}
    </td>
  );
}

function Spool({ used, most }: { used: number | null; most: number | null }) {
  if (used === null || most === null || most <= 0) return <>{format.bytes(used)}</>;
  const part = Math.min(1, used / most);
  return (
    <span class="spool">
      <meter min={0} max={1} high={0.8} value={part} aria-label={`${Math.round(part * 100)} % of the spool is used`} />
      {format.bytes(used)} of {format.bytes(most)}
    </span>
  );
}

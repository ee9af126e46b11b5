// What the cloud says, as docs/openapi-cloud.json has it. Times are RFC 3339 text, UTC.

export type Role = 'read' | 'operator';

export interface Me {
  name: string;
  role: Role;
  version: string;
  /** Template of raster tiles, `https://…/{z}/{x}/{y}.png`. */
  tiles: string | null;
  now: string;
}

export interface Device {
  id: number;
  imei: string | null;
  ident: string | null;
  vendor: string | null;
  name: string | null;
  model: string | null;
  family: string | null;
  first_seen: string | null;
  last_seen: string | null;
}

export interface Latest {
  device_id: number;
  imei: string | null;
  ident: string | null;
  vendor: string | null;
  name: string | null;
  time: string;
  received_at: string;
  latitude: number;
  longitude: number;
  altitude_m: number | null;
  heading_deg: number | null;
  speed_kmh: number | null;
  satellites: number | null;
  ignition: boolean | null;
  movement: boolean | null;
  odometer_m: number | null;
  external_voltage_mv: number | null;
}

export interface Value {
  /** Null for an attribute with a name of its own. */
  io_id: number | null;
  name: string;
  /** Signed and scaled, in `unit`; text where the number is too large for one. */
  value: number | string | null;
  unit: string | null;
  text: string | null;
  raw: unknown;
}

export interface DeviceDetail {
  device: Device;
  latest: Latest | null;
  /** Device clock of the newest record, which need not be a valid position. */
  time: string | null;
  /** What caused that record. */
  event: string | null;
  values: Value[];
}

export interface TrackPoint {
  time: string;
  latitude: number;
  longitude: number;
  altitude_m: number | null;
  heading_deg: number | null;
  speed_kmh: number | null;
  valid: boolean | null;
}

export interface Track {
  from: string;
  to: string;
  /** Rows in the range, before any were left out. */
  rows: number;
  step_s: number | null;
  points: TrackPoint[];
}

export interface SeriesAnswer {
  series: { name: string; unit: string | null; points: [string, number | null][] }[];
}

export interface Command {
  id: string;
  device_id: number | null;
  imei: string;
  text: string;
  state: string;
  created_at: string;
  expires_at: string;
  sent_at: string | null;
  finished_at: string | null;
  gateway: string | null;
  requested_by: string;
  response: string | null;
  reason: string | null;
}

export interface DeadLetter {
  id: number;
  /** Failed last. */
  at: string;
  first_at: string;
  class: string;
  reason: string;
  vendor: string | null;
  device_id: number | null;
  imei: string | null;
  ident: string | null;
  gateway: string;
  records: number;
  size_bytes: number;
  /** How often it came. */
  times: number;
  sqlstate: string | null;
}

export interface DeadLetterDetail extends DeadLetter {
  /** Up to 64 KiB of the payload. */
  hex: string;
  truncated: boolean;
  /** One behind the last byte: more was expected. */
  stopped_at: number | null;
  notes: { from: number; to: number; what: string }[];
  redrive_would_succeed: boolean;
  because: string;
}

export interface Redriven {
  id: number;
  outcome: 'redriven' | 'stays' | 'passed_by';
  detail: string;
  stored: number;
  quarantined: number;
  known: number;
  messages: number;
}

export type StageName = 'tracker' | 'gateway' | 'redis' | 'cloud' | 'database';

export interface Stage {
  name: StageName;
  state: 'moving' | 'idle' | 'stalled' | 'unknown';
  rate_per_s: number | null;
  backlog: number | null;
  oldest_s: number | null;
  detail: string | null;
}

export interface LedgerLine {
  received: number;
  stored: number;
  duplicate: number;
  /** Stored aside, because the device's clock cannot be right. */
  quarantined: number;
  dead: number;
  dropped: number;
  /** Null: Redis does not answer. */
  in_flight: number | null;
  in_flight_estimated: boolean;
  difference: number;
  /** Sentences about what nobody accounts for. */
  unaccounted: string[];
  since: string;
}

export interface GatewayLine {
  id: string;
  last_seen: string | null;
  days_left_offline: number | null;
  certificate_days_left: number | null;
  spool_bytes: number | null;
  spool_bytes_max: number | null;
  backlog_frames: number | null;
}

export interface Pipeline {
  now: string;
  stages: Stage[];
  ledger: LedgerLine | null;
  gateways: GatewayLine[];
}

export interface Page<T> {
  items: T[];
  next: string | null;
}

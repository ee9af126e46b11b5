// Every device that ever spoke, also those without a position.

import { useEffect, useState } from 'preact/hooks';

import { get } from '../api/client.ts';
import type { Device, Page } from '../api/types.ts';
import { labelOf } from '../core/fleet.ts';
import * as format from '../core/format.ts';
import { now } from '../state.ts';
import { useAsked } from './hooks.ts';
import { FIRST_PAGE, Loading, NoTracker, Pager, pathOf, Trouble } from './parts.tsx';

const LIMIT = 100;
/** A pause in typing, milliseconds. */
const PAUSE_MS = 250;

export function DevicesView() {
  const [text, setText] = useState('');
  const [q, setQ] = useState('');
  const [pages, setPages] = useState(FIRST_PAGE);
  useEffect(() => {
    const timer = setTimeout(() => {
      setQ(text.trim());
      setPages(FIRST_PAGE);
    }, PAUSE_MS);
    return () => clearTimeout(timer);
  }, [text]);
  const path = pathOf(`/api/v1/devices?limit=${LIMIT}${q ? `&q=${encodeURIComponent(q)}` : ''}`, pages);
  const asked = useAsked<Page<Device>>(path, (signal) => get(path, signal), 5000);
  const items = asked.data?.items ?? [];
  return (
    <div class="page">
      <h1>Devices</h1>
      <label class="search wide">
        <span class="hidden">Search by name, IMEI or ident</span>
        <input type="search" placeholder="Name, IMEI or ident" value={text} onInput={(event) => setText(event.currentTarget.value)} />
      </label>
      {asked.problem && <Trouble problem={asked.problem} again={asked.again} />}
      {asked.loading && <Loading what="devices" />}
      {asked.data && items.length === 0 && (q ? <p class="quiet">No device has “{q}” in its name, IMEI or ident.</p> : <NoTracker />)}
      {items.length > 0 && (
        <div class="scroll" tabIndex={0} role="region" aria-label="Table of devices">
          <table>
            <thead>
              <tr>
                <th scope="col">Device</th>
                <th scope="col">IMEI or ident</th>
                <th scope="col">Model</th>
                <th scope="col">Vendor</th>
                <th scope="col">Last heard</th>
                <th scope="col">Known since</th>
              </tr>
            </thead>
            <tbody>
              {items.map((device) => (
                <tr key={device.id}>
                  <th scope="row">
                    <a href={`#/device/${device.id}`}>{labelOf(device, device.id)}</a>
                  </th>
                  <td>{device.imei ?? device.ident ?? '–'}</td>
                  <td>{device.model ?? (device.family ? `${device.family}?` : '–')}</td>
                  <td>{device.vendor ?? '–'}</td>
                  <td>{format.ago(device.last_seen, now())}</td>
                  <td>{format.moment(device.first_seen)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      <Pager pages={pages} next={asked.data?.next} words={['Back', 'Next']} go={setPages} />
    </div>
  );
}
